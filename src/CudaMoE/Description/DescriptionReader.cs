using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;

namespace CudaMoE.Description;

/// <summary>
/// Holds located JSON against the contract of a description: every key known, none twice, none missing, every value of its type. Gives
/// the same JSON with all defaults written out, which the generated code then turns into records. Remembers the line of every path.
/// </summary>
internal sealed class DescriptionReader
{
    private const string SchemaKey = "$schema";

    private readonly Dictionary<string, int> _lines = new(StringComparer.Ordinal);

    /// <summary>Checks a whole description of any kind.</summary>
    /// <exception cref="DescriptionException">Something is not as the contract says.</exception>
    public T Read<T>(LocatedValue root, JsonTypeInfo<T> contract) => Value(root, contract, nullable: false, "").Deserialize(contract)!;

    /// <summary>The line of a path, or of the nearest one around it that the text has.</summary>
    public int LineOf(string path)
    {
        while (true)
        {
            if (_lines.TryGetValue(path, out int line))
                return line;
            if (path.Length == 0)
                return 1;
            path = path[..Math.Max(0, path.LastIndexOfAny(['.', '[']))];
        }
    }

    private static string Join(string path, string key) => path.Length == 0 ? key : $"{path}.{key}";

    private static DescriptionException Error(string path, int line, string problem)
    {
        string place = path.Length == 0 ? "the description" : path;
        return new($"line {line}: {place}{problem}", path, line, null);
    }

    private JsonNode? Value(LocatedValue value, JsonTypeInfo contract, bool nullable, string path)
    {
        _lines[path] = value.Line;
        if (value.Kind == JsonValueKind.Null)
        {
            return nullable ? null : throw Error(path, value.Line, " is null; it must have a value");
        }

        return contract.Kind switch
        {
            JsonTypeInfoKind.Object => Object(value, contract, path),
            JsonTypeInfoKind.Enumerable => List(value, contract, path),
            _ => Scalar(value, Nullable.GetUnderlyingType(contract.Type) ?? contract.Type, path),
        };
    }

    private JsonObject Object(LocatedValue value, JsonTypeInfo contract, string path)
    {
        if (value.Kind != JsonValueKind.Object)
            throw Error(path, value.Line, $" is {value.Shown}; it must be an object {{ ... }}");
        Dictionary<string, LocatedMember> members = new(StringComparer.Ordinal);
        string[] known = [.. contract.Properties.Select(property => property.Name)];
        foreach (LocatedMember member in value.Members)
        {
            if (path.Length == 0 && member.Name == SchemaKey && member.Value.Kind == JsonValueKind.String && !members.ContainsKey(SchemaKey))
            {
                members.Add(SchemaKey, member);
                continue;
            }

            string memberPath = Join(path, LocatedValue.Cut(member.Name));
            if (Array.IndexOf(known, member.Name) < 0)
            {
                string hint = NearestName.Suggestion(member.Name, known);
                throw Error(memberPath, member.Line, ": unknown key" + (hint.Length > 0 ? hint : $"; known are {string.Join(", ", known)}"));
            }

            if (!members.TryAdd(member.Name, member))
                throw Error(memberPath, member.Line, $": the key is given twice, first on line {members[member.Name].Line}");
        }

        JsonObject result = [];
        foreach (JsonPropertyInfo property in contract.Properties)
        {
            JsonTypeInfo propertyContract = DescriptionContext.Contract(property.PropertyType);
            string propertyPath = Join(path, property.Name);
            if (members.TryGetValue(property.Name, out LocatedMember? member))
            {
                result[property.Name] = Value(member.Value, propertyContract, property.IsSetNullable, propertyPath);
            }
            else if (property.IsRequired)
            {
                throw Error(propertyPath, value.Line, ": the key is missing; it is required");
            }
            else
            {
                result[property.Name] = JsonSerializer.SerializeToNode(DescriptionContext.DefaultOf(contract, property), propertyContract);
            }
        }

        return result;
    }

    private JsonArray List(LocatedValue value, JsonTypeInfo contract, string path)
    {
        if (value.Kind != JsonValueKind.Array)
            throw Error(path, value.Line, $" is {value.Shown}; it must be a list [ ... ]");
        JsonTypeInfo element = DescriptionContext.Contract(contract.ElementType!);
        JsonArray result = [];
        for (int i = 0; i < value.Items.Count; i++)
            result.Add(Value(value.Items[i], element, nullable: false, string.Create(CultureInfo.InvariantCulture, $"{path}[{i}]")));
        return result;
    }

    private static JsonValue Scalar(LocatedValue value, Type type, string path)
    {
        if (type.IsEnum)
            return EnumValue(value, type, path);
        if (type == typeof(bool))
        {
            return value.Kind is JsonValueKind.True or JsonValueKind.False
                ? JsonValue.Create(value.Kind == JsonValueKind.True)
                : throw Error(path, value.Line, $" is {value.Shown}; it must be true or false");
        }

        if (type == typeof(string))
        {
            return value.Kind == JsonValueKind.String
                ? JsonValue.Create(value.Text)
                : throw Error(path, value.Line, $" is {value.Shown}; it must be a text in quotes");
        }

        if (value.Kind != JsonValueKind.Number)
            throw Error(path, value.Line, $" is {value.Shown}; it must be a number");
        CultureInfo culture = CultureInfo.InvariantCulture;
        if (type == typeof(float) || type == typeof(double))
        {
            // A number beyond the type's range would be read as infinity.
            double number = double.Parse(value.Text, NumberStyles.Float, culture);
            double largest = type == typeof(float) ? float.MaxValue : double.MaxValue;
            if (Math.Abs(number) > largest)
                throw Error(path, value.Line, $" is {value.Shown}; it must be at most {largest.ToString("G7", culture)} in size");
            return type == typeof(float) ? JsonValue.Create(float.Parse(value.Text, NumberStyles.Float, culture)) : JsonValue.Create(number);
        }

        const NumberStyles integer = NumberStyles.AllowLeadingSign;
        if (type == typeof(int) && int.TryParse(value.Text, integer, culture, out int int32))
            return JsonValue.Create(int32);
        if (type == typeof(long) && long.TryParse(value.Text, integer, culture, out long int64))
            return JsonValue.Create(int64);
        if (type == typeof(ulong) && ulong.TryParse(value.Text, integer, culture, out ulong uint64))
            return JsonValue.Create(uint64);
        string range = type == typeof(int) ? "-2147483648 to 2147483647" : type == typeof(long) ? "-2^63 to 2^63 - 1" : "0 to 2^64 - 1";
        throw Error(path, value.Line, $" is {value.Shown}; it must be an integer from {range}, without a point or an exponent");
    }

    private static JsonValue EnumValue(LocatedValue value, Type type, string path)
    {
        string[] names = [.. DescriptionContext.EnumNames(type)];
        string known = string.Join(", ", names.Select(name => $"\"{name}\""));
        if (value.Kind != JsonValueKind.String)
            throw Error(path, value.Line, $" is {value.Shown}; it must be one of {known}");
        if (Array.IndexOf(names, value.Text) < 0)
            throw Error(path, value.Line, $" is {value.Shown}; it must be one of {known}{NearestName.Suggestion(value.Text, names)}");
        return JsonValue.Create(value.Text);
    }
}
