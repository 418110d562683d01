using System.Collections;
using System.Globalization;
using System.Text.Json.Serialization.Metadata;

namespace CudaMoE.Description;

/// <summary>The rules that a description must keep beyond its types.</summary>
public static class DescriptionValidator
{
    /// <summary>Checks every rule; the first broken one is thrown, with the key's path, the value and the rule.</summary>
    /// <exception cref="DescriptionException">A rule is broken.</exception>
    public static void Validate(ModelDescription description)
    {
        ArgumentNullException.ThrowIfNull(description);
        CheckValues(description, "");
        CheckName(description.Name);
        FeatureRules.Check(description);
        TaskRules.Check(description);
        ArchitectureRules.Check(description);
        TrainingRules.Check(description);
        DataRules.Check(description);
    }

    /// <summary>The error of a broken rule.</summary>
    internal static DescriptionException Error(string path, FormattableString problem) =>
        new(path, problem.ToString(CultureInfo.InvariantCulture));

    /// <summary>Refuses an entry that is in the list twice.</summary>
    internal static void CheckUnique(IReadOnlyList<string> values, string path, string? key = null)
    {
        Dictionary<string, int> first = new(StringComparer.Ordinal);
        string suffix = key is null ? "" : "." + key;
        for (int i = 0; i < values.Count; i++)
        {
            if (!first.TryAdd(values[i], i))
                throw Error($"{path}[{i}]{suffix}", $"is \"{values[i]}\", which {path}[{first[values[i]]}]{suffix} is already");
        }
    }

    /// <summary>Refuses what is no name of a run.</summary>
    internal static void CheckName(string name)
    {
        bool valid = name.Length <= 100 && name[0] != '.'
            && name.All(character => char.IsAsciiLetterOrDigit(character) || character is '-' or '_' or '.');
        if (!valid)
            throw Error("name", $"is \"{LocatedValue.Cut(name)}\"; it must be 1 to 100 letters, digits, '-', '_' and '.', and not begin with '.'");
    }

    /// <summary>Checks all values of a record and of what it holds: not null unless allowed, texts not empty, numbers in their range, enumerations known.</summary>
    internal static void CheckValues(object record, string path)
    {
        JsonTypeInfo contract = DescriptionContext.Contract(record.GetType());
        foreach (JsonPropertyInfo property in contract.Properties)
        {
            string propertyPath = path.Length == 0 ? property.Name : $"{path}.{property.Name}";
            object? value = property.Get!(record);
            if (value is null)
            {
                if (!property.IsSetNullable)
                    throw Error(propertyPath, $"is null; it must have a value");
                continue;
            }

            NumberRangeAttribute? range = property.AttributeProvider?.GetCustomAttributes(typeof(NumberRangeAttribute), inherit: false)
                .OfType<NumberRangeAttribute>().SingleOrDefault();
            CheckValue(value, range, propertyPath);
        }
    }

    private static void CheckValue(object? value, NumberRangeAttribute? range, string path)
    {
        switch (value)
        {
            case null:
                throw Error(path, $"is null; it must have a value");
            case string text:
                CheckText(text, path);
                break;
            case int or long or float or double:
                double number = Convert.ToDouble(value, CultureInfo.InvariantCulture);
                if (range is not null ? !range.Contains(number) : !double.IsFinite(number))
                    throw Error(path, $"is {value}; it must be {(object?)range ?? "finite"}");
                break;
            case bool or ulong:
                break;
            case Enum choice:
                if (!Enum.IsDefined(choice.GetType(), choice))
                    throw Error(path, $"is {choice:D}; it must be one of {string.Join(", ", DescriptionContext.EnumNames(choice.GetType()))}");
                break;
            case IEnumerable items:
                int index = 0;
                foreach (object? item in items)
                    CheckValue(item, range, string.Create(CultureInfo.InvariantCulture, $"{path}[{index++}]"));
                break;
            default:
                CheckValues(value, path);
                break;
        }
    }

    private static void CheckText(string text, string path)
    {
        if (text.Length == 0)
            throw Error(path, $"is empty");
        // The separators of fields and values may be a tab; no other text needs a control character.
        if (text != "\t" && text.Any(char.IsControl))
            throw Error(path, $"holds a control character");
    }
}
