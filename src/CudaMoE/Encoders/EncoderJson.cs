using System.Text.Json;
using CudaMoE.Checkpoints;

namespace CudaMoE.Encoders;

/// <summary>Reads single keys of a JSON file of an encoder's folder. Keys that nobody asks for are passed over; a value of the wrong kind is an error that names file and key.</summary>
internal sealed class EncoderJson
{
    private readonly string _path;
    private readonly JsonElement _root;

    private EncoderJson(string path, JsonElement root)
    {
        _path = path;
        _root = root;
    }

    /// <summary>Reads a file; null when there is none.</summary>
    /// <exception cref="CheckpointFormatException">It is no JSON object.</exception>
    public static EncoderJson? Open(string path)
    {
        if (!File.Exists(path))
            return null;
        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? new(path, document.RootElement.Clone())
                : throw new CheckpointFormatException(path, $"holds {document.RootElement.ValueKind}; it must be a JSON object");
        }
        catch (JsonException error)
        {
            throw new CheckpointFormatException(path, $"is not JSON: {error.Message}", error);
        }
    }

    /// <summary>A whole number that must be there.</summary>
    public int Integer(string key, int minimum, int maximum) =>
        Integer(key, minimum, maximum, null) ?? throw new CheckpointFormatException(_path, $"{key} is missing; it must be {minimum} to {maximum}");

    /// <summary>A whole number; <paramref name="missing"/> when it is not there or null.</summary>
    public int? Integer(string key, int minimum, int maximum, int? missing)
    {
        if (!TryGet(key, out JsonElement value))
            return missing;
        return value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int number) && number >= minimum && number <= maximum
            ? number
            : throw new CheckpointFormatException(_path, $"{key} is {Show(value)}; it must be a whole number, {minimum} to {maximum}");
    }

    /// <summary>One number for both sides of a picture, or a list of two equal ones.</summary>
    public int Side(string key, int maximum)
    {
        if (TryGet(key, out JsonElement value) && value.ValueKind == JsonValueKind.Array)
        {
            bool square = value.GetArrayLength() == 2 && value[0].ValueKind == JsonValueKind.Number && value[0].GetRawText() == value[1].GetRawText();
            if (square && value[0].TryGetInt32(out int side) && side >= 1 && side <= maximum)
                return side;
            throw new CheckpointFormatException(_path, $"{key} is {Show(value)}; only squares are supported, of 1 to {maximum}");
        }

        return Integer(key, 1, maximum);
    }

    /// <summary>A positive number, such as an epsilon.</summary>
    public float Positive(string key, float missing)
    {
        if (!TryGet(key, out JsonElement value))
            return missing;
        return value.ValueKind == JsonValueKind.Number && value.TryGetSingle(out float number) && number > 0 && float.IsFinite(number)
            ? number
            : throw new CheckpointFormatException(_path, $"{key} is {Show(value)}; it must be a number above 0");
    }

    /// <summary>Any number, as the longest text of a tokenizer, which may be beyond all integers; null when it is not there.</summary>
    public double? Number(string key)
    {
        if (!TryGet(key, out JsonElement value))
            return null;
        return value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double number)
            ? number
            : throw new CheckpointFormatException(_path, $"{key} is {Show(value)}; it must be a number");
    }

    /// <summary>true or false; null when it is not there or null.</summary>
    public bool? Flag(string key)
    {
        if (!TryGet(key, out JsonElement value))
            return null;
        return value.ValueKind is JsonValueKind.True or JsonValueKind.False
            ? value.GetBoolean()
            : throw new CheckpointFormatException(_path, $"{key} is {Show(value)}; it must be true or false");
    }

    /// <summary>A text; null when it is not there or null.</summary>
    public string? Text(string key)
    {
        if (!TryGet(key, out JsonElement value))
            return null;
        return value.ValueKind == JsonValueKind.String
            ? value.GetString()
            : throw new CheckpointFormatException(_path, $"{key} is {Show(value)}; it must be a text");
    }

    /// <summary>A token, which is a text or an object with the text as <c>content</c>.</summary>
    public string? Token(string key)
    {
        if (TryGet(key, out JsonElement value) && value.ValueKind == JsonValueKind.Object && value.TryGetProperty("content", out JsonElement content) && content.ValueKind == JsonValueKind.String)
            return content.GetString();
        return Text(key);
    }

    /// <summary>Refuses a value that this library does not compute; a key that is not there is fine.</summary>
    public void Require(string key, params ReadOnlySpan<string> supported)
    {
        if (!TryGet(key, out JsonElement value))
            return;
        string given = value.ValueKind == JsonValueKind.String ? value.GetString()! : value.GetRawText();
        if (!supported.Contains(given))
            throw new CheckpointFormatException(_path, $"{key} is {Show(value)}; {(supported.Length == 1 ? "only" : "one of")} {string.Join(", ", supported)} is supported");
    }

    private static string Show(JsonElement value)
    {
        string text = value.GetRawText();
        return text.Length <= 60 ? text : text[..60] + "...";
    }

    private bool TryGet(string key, out JsonElement value) => _root.TryGetProperty(key, out value) && value.ValueKind != JsonValueKind.Null;
}
