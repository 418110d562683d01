using System.Text.Json.Serialization.Metadata;

namespace CudaMoE.Description;

/// <summary>What reading a description of any kind has in common: errors begin with the path and the line.</summary>
internal static class DescriptionFile
{
    /// <summary>Reads a file and parses it with its folder as the base of relative paths.</summary>
    /// <exception cref="DescriptionException">It cannot be read or is wrong; the message begins with the path and the line.</exception>
    public static T Load<T>(string path, Func<string, string?, T> parse)
    {
        string full = Path.GetFullPath(path);
        string text;
        try
        {
            text = File.ReadAllText(full);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new DescriptionException($"{path}: cannot be read: {error.Message}", error);
        }

        try
        {
            return parse(text, Path.GetDirectoryName(full));
        }
        catch (DescriptionException error)
        {
            throw new DescriptionException($"{path}: {error.Message}", error.KeyPath, error.Line, error);
        }
    }

    /// <summary>Reads JSON text and checks its rules.</summary>
    /// <exception cref="DescriptionException">The text is wrong; the message begins with the line.</exception>
    public static T Parse<T>(string text, JsonTypeInfo<T> type, Action<T> check)
    {
        DescriptionReader reader = new();
        T description = reader.Read(LocatedJson.Parse(text), type);
        try
        {
            check(description);
        }
        catch (DescriptionException error) when (error.KeyPath is { } path)
        {
            int line = reader.LineOf(path);
            throw new DescriptionException($"line {line}: {error.Message}", path, line, error);
        }

        return description;
    }
}
