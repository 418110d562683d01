using System.Text.Json;

namespace CudaMoE.Cli.Importing;

/// <summary>A JSON object whose keys are names of parameters and whose values are names of foreign tensors, or lists of them that follow each other in the parameter.</summary>
internal sealed class NameMap
{
    private readonly Dictionary<string, IReadOnlyList<string>> _tensors = new(StringComparer.Ordinal);

    /// <summary>The parameters that it names.</summary>
    public IEnumerable<string> Parameters => _tensors.Keys;

    /// <summary>The foreign tensors of a parameter; null where the map does not name it.</summary>
    public IReadOnlyList<string>? this[string parameter] => _tensors.GetValueOrDefault(parameter);

    /// <exception cref="UsageException">The file is missing or no such object.</exception>
    public static NameMap Load(string path)
    {
        if (!File.Exists(path))
            throw new UsageException($"there is no name map {path}");
        NameMap map = new();
        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllText(path), new() { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true });
            if (document.RootElement.ValueKind != JsonValueKind.Object)
                throw new JsonException("it must be an object of parameter names with tensor names");
            foreach (JsonProperty property in document.RootElement.EnumerateObject())
            {
                if (!map._tensors.TryAdd(property.Name, Names(property)))
                    throw new JsonException($"\"{property.Name}\" is in it twice");
            }
        }
        catch (JsonException e)
        {
            throw new UsageException($"{path}: {e.Message}");
        }

        return map;
    }

    private static IReadOnlyList<string> Names(JsonProperty property)
    {
        JsonElement value = property.Value;
        if (value.ValueKind == JsonValueKind.String)
            return [value.GetString()!];
        bool list = value.ValueKind == JsonValueKind.Array && value.GetArrayLength() > 0 && value.EnumerateArray().All(item => item.ValueKind == JsonValueKind.String);
        return list
            ? [.. value.EnumerateArray().Select(item => item.GetString()!)]
            : throw new JsonException($"\"{property.Name}\" is {value.GetRawText()}; it must be the name of a tensor or a list of such names");
    }
}
