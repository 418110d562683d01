using System.Text.Json;
using System.Text.Json.Nodes;
using CudaMoE.Description;

namespace CudaMoE.Cli;

/// <summary>Reads model files, with keys replaced from the command line.</summary>
internal static class ModelFile
{
    private static readonly JsonDocumentOptions Lenient = new() { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true, AllowDuplicateProperties = false };

    /// <summary>Reads a model file; the overrides win over what it says.</summary>
    /// <param name="path">The file.</param>
    /// <param name="overrides">Values by the path of their key, in order.</param>
    /// <exception cref="DescriptionException">The file is wrong, or is wrong with the overrides.</exception>
    /// <exception cref="UsageException">The file is missing, or an override names no place in it.</exception>
    public static ModelDescription Load(string path, IReadOnlyList<KeyValuePair<string, string>> overrides)
    {
        if (!File.Exists(path))
            throw new UsageException($"there is no model file {path}", "'cudamoe init DATA.csv' writes one");
        return Load(path, overrides, DescriptionJson.Load, DescriptionJson.Parse);
    }

    /// <summary>Reads stream files in the same way.</summary>
    /// <param name="path">The file.</param>
    /// <param name="overrides">Values by the path of their key, in order.</param>
    /// <exception cref="DescriptionException">The file is wrong, or is wrong with the overrides.</exception>
    /// <exception cref="UsageException">The file is missing, or an override names no place in it.</exception>
    public static StreamDescription LoadStream(string path, IReadOnlyList<KeyValuePair<string, string>> overrides)
    {
        if (!File.Exists(path))
            throw new UsageException($"there is no stream file {path}", "docs/models/xsmoe.md shows one");
        return Load(path, overrides, StreamDescriptionJson.Load, StreamDescriptionJson.Parse);
    }

    /// <summary>Whether a file is a stream's: it says where frozen states come from. A file that cannot be read is none; its own reader says what is wrong.</summary>
    public static bool IsStream(string path)
    {
        try
        {
            return JsonNode.Parse(File.ReadAllText(path), documentOptions: Lenient) is JsonObject root && root.ContainsKey("modalities");
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException or ArgumentException)
        {
            return false;
        }
    }

    /// <summary>What follows <c>--set</c>, as often as it is given.</summary>
    /// <exception cref="UsageException">One has no KEY=VALUE.</exception>
    public static List<KeyValuePair<string, string>> Overrides(IEnumerable<string> given)
    {
        List<KeyValuePair<string, string>> overrides = [];
        foreach (string each in given)
        {
            int equals = each.IndexOf('=', StringComparison.Ordinal);
            if (equals < 1)
                throw new UsageException($"--set {each} has no KEY=VALUE");
            overrides.Add(new(each[..equals], each[(equals + 1)..]));
        }

        return overrides;
    }

    private static T Load<T>(string path, IReadOnlyList<KeyValuePair<string, string>> overrides, Func<string, T> load, Func<string, string?, T> parse)
    {
        if (overrides.Count == 0)
            return load(path);
        JsonNode root;
        try
        {
            root = JsonNode.Parse(File.ReadAllText(path), documentOptions: Lenient) as JsonObject ?? throw new JsonException("it holds no object");
        }
        catch (Exception e) when (e is JsonException or ArgumentException)
        {
            // The strict reader says what is wrong, and where.
            load(path);
            throw new DescriptionException($"{path}: {e.Message}", e);
        }

        foreach ((string key, string value) in overrides)
            Set(root, key, value);
        try
        {
            return parse(root.ToJsonString(), Path.GetDirectoryName(Path.GetFullPath(path)));
        }
        catch (DescriptionException e) when (e.KeyPath is { } place)
        {
            // Lines of the merged text are of no use to anyone.
            string message = e.Message.StartsWith("line ", StringComparison.Ordinal) ? e.Message[(e.Message.IndexOf(": ", StringComparison.Ordinal) + 2)..] : e.Message;
            throw new DescriptionException($"{path} with {string.Join(' ', overrides.Select(o => $"{o.Key}={o.Value}"))}: {message}", e);
        }
    }

    /// <summary>Puts a value at the path of a key: <c>training.optimizer.learning_rate</c>, <c>features.age.transform</c>, <c>tasks[0].weight</c>.</summary>
    public static void Set(JsonNode root, string key, string value)
    {
        string[] parts = key.Replace("[", ".", StringComparison.Ordinal).Replace("]", "", StringComparison.Ordinal).Split('.');
        JsonNode at = root;
        for (int i = 0; i < parts.Length - 1; i++)
            at = Child(at, parts[i], key);
        switch (at)
        {
            case JsonObject item:
                item[parts[^1]] = Value(value);
                break;
            case JsonArray list when int.TryParse(parts[^1], out int index) && index >= 0 && index < list.Count:
                list[index] = Value(value);
                break;
            default:
                throw new UsageException($"--set {key}: there is no \"{parts[^1]}\" in it");
        }
    }

    private static JsonNode Child(JsonNode at, string part, string key)
    {
        switch (at)
        {
            case JsonObject item:
                if (item[part] is { } child)
                    return child;
                JsonObject added = [];
                item[part] = added;
                return added;
            // Features and tasks can be named, too.
            case JsonArray list:
                JsonNode? found = int.TryParse(part, out int index)
                    ? index >= 0 && index < list.Count ? list[index] : null
                    : list.FirstOrDefault(e => e is JsonObject o && o["name"] is JsonValue name && name.TryGetValue(out string? text) && text == part);
                return found ?? throw new UsageException($"--set {key}: there is no \"{part}\" in the list");
            default:
                throw new UsageException($"--set {key}: \"{part}\" is below a value that has no keys");
        }
    }

    // What reads as JSON is JSON; anything else is text, so that quotes are not needed.
    private static JsonNode? Value(string text)
    {
        try
        {
            return JsonNode.Parse(text, documentOptions: Lenient);
        }
        catch (JsonException)
        {
            return JsonValue.Create(text);
        }
    }
}
