using System.Text;
using System.Text.Json;
using CudaMoE.Data;

namespace CudaMoE.Serving;

/// <summary>
/// One row for a <see cref="Predictor"/>: a value for every column that the model reads, which <see cref="Predictor.NewRow"/> makes and the caller fills.
/// Values are encoded exactly as the fields of a file are.
/// </summary>
/// <remarks>Not thread-safe; leave it alone while a prediction is under way. It may be filled and used again.</remarks>
public sealed class FeatureRow : IFieldSource
{
    private readonly byte[]?[] _fields;

    internal FeatureRow(InputColumns columns)
    {
        Columns = columns;
        _fields = new byte[]?[columns.Names.Count];
    }

    /// <summary>The columns of the predictor that made it.</summary>
    internal InputColumns Columns { get; }

    /// <summary>Sets the value of a column.</summary>
    /// <param name="column">Its name, see <see cref="Predictor.Columns"/>.</param>
    /// <exception cref="DataException">The model reads no such column, a list is given for a column of single values, or a text of a list holds what separates them.</exception>
    public FeatureValue this[string column]
    {
        set
        {
            int place = Columns.IndexOf(column);
            string text = value.List is { } list ? Join(place, list) : value.Text ?? "";
            _fields[place] = Encoding.UTF8.GetBytes(Columns.Trim ? text.Trim(' ', '\t') : text);
        }
    }

    /// <summary>Sets the columns that a JSON object names: texts, numbers, true (1) and false (0), null for what is not known, arrays of texts or numbers for lists.</summary>
    /// <param name="row">The object.</param>
    /// <exception cref="DataException">It is no object, or a property breaks the rules of <see cref="this[string]"/>.</exception>
    public void Set(JsonElement row)
    {
        if (row.ValueKind != JsonValueKind.Object)
            throw new DataException($"a row is a JSON object of columns and their values, not {Kind(row)}");
        foreach (JsonProperty property in row.EnumerateObject())
        {
            string column = Name(property);
            this[column] = property.Value.ValueKind == JsonValueKind.Array
                ? FeatureValue.Of(property.Value.EnumerateArray().Select(value => Text(column, value) ?? ""))
                : Text(column, property.Value);
        }
    }

    /// <summary>Forgets all values.</summary>
    public void Clear() => Array.Clear(_fields);

    /// <summary>Names of the columns without a value.</summary>
    internal IEnumerable<string> Unset() => Columns.Names.Where((_, place) => _fields[place] is null);

    int IFieldSource.IndexOf(string column, string purpose) => Columns.IndexOf(column);

    ReadOnlySpan<byte> IFieldSource.Field(int column) => _fields[column]
        ?? throw new DataException($"the row has no value for {string.Join(", ", Unset().Take(10).Select(name => $"\"{name}\""))}; null says that a value is not known");

    bool IFieldSource.IsMissing(ReadOnlySpan<byte> text) => Columns.IsMissing(text);

    double IFieldSource.Number(int column, string rule) => Utf8Text.TryParseNumber(_fields[column], out double value)
        ? value
        : throw ((IFieldSource)this).Error(column, $"{Utf8Text.Quote(_fields[column])} is not a finite number; {rule}");

    DataException IFieldSource.Error(int column, string rule) => new($"column \"{Columns.Names[column]}\": {rule}");

    private string Join(int place, IReadOnlyList<string> values)
    {
        string separator = Columns.Separator(place)
            ?? throw new DataException($"column \"{Columns.Names[place]}\": it takes a single value, not a list of {values.Count}");
        foreach (string value in values)
        {
            if (value is null)
                throw new DataException($"column \"{Columns.Names[place]}\": a value of the list is null; leave it out");
            if (value.Contains(separator, StringComparison.Ordinal))
                throw new DataException($"column \"{Columns.Names[place]}\": the value \"{value}\" holds '{separator}', which separates values in the training files");
        }

        return string.Join(separator, values);
    }

    private static string? Text(string column, JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.String => String(column, value),
        JsonValueKind.Number => value.GetRawText(),
        JsonValueKind.True => "1",
        JsonValueKind.False => "0",
        JsonValueKind.Null => null,
        _ => throw new DataException($"column \"{column}\": a value is a text, a number, true, false, null or an array of these, not {Kind(value)}"),
    };

    // JSON may escape what no text can hold.
    private static string Name(JsonProperty property)
    {
        try
        {
            return property.Name;
        }
        catch (InvalidOperationException error)
        {
            throw HalfACharacter("the name of a column", error);
        }
    }

    private static string? String(string column, JsonElement value)
    {
        try
        {
            return value.GetString();
        }
        catch (InvalidOperationException error)
        {
            throw HalfACharacter($"column \"{column}\": a text", error);
        }
    }

    private static DataException HalfACharacter(string what, InvalidOperationException error) =>
        new($"{what} holds half of a surrogate pair, which is no character; send whole characters", error);

    private static string Kind(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Array => "an array",
        JsonValueKind.Object => "an object",
        JsonValueKind.Undefined => "nothing",
        JsonValueKind.String => "a text",
        JsonValueKind.Number => "a number",
        _ => value.GetRawText(),
    };
}
