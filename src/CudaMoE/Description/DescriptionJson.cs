using System.Text.Json;

namespace CudaMoE.Description;

/// <summary>
/// Descriptions as JSON: snake_case keys and values, comments and trailing commas allowed, a "$schema" key allowed at the top. Reading
/// is strict: a key that is not known, a missing or doubled one, a wrong type or a broken rule is an error that names the line, the path
/// and the value, and what was probably meant.
/// </summary>
public static class DescriptionJson
{
    /// <summary>The folder of the data cache when a description names none, beside the model file.</summary>
    public const string DefaultCacheFolder = ".cudamoe-cache";

    /// <summary>Reads and validates a model file. Relative paths in it start at its folder and come out absolute.</summary>
    /// <exception cref="DescriptionException">It cannot be read or is wrong; the message begins with the path and the line.</exception>
    public static ModelDescription Load(string path) => DescriptionFile.Load(path, Parse);

    /// <summary>Reads and validates JSON text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="baseFolder">Where relative paths of data files start, and where the default cache lies; null leaves all paths as written.</param>
    /// <exception cref="DescriptionException">The text is wrong; the message begins with the line.</exception>
    public static ModelDescription Parse(string text, string? baseFolder = null)
    {
        ModelDescription description = DescriptionFile.Parse(text, DescriptionContext.Default.ModelDescription, DescriptionValidator.Validate);
        return baseFolder is null || description.Data is null ? description : description with { Data = Resolve(description.Data, baseFolder) };
    }

    /// <summary>The JSON of a description, with every default written out, so that a later version's defaults do not change it.</summary>
    public static string Write(ModelDescription description) => JsonSerializer.Serialize(description, DescriptionContext.Default.ModelDescription) + "\n";

    private static DataDescription Resolve(DataDescription data, string baseFolder)
    {
        return data with
        {
            Train = [.. data.Train.Select(Absolute)],
            Validation = [.. data.Validation.Select(Absolute)],
            Test = [.. data.Test.Select(Absolute)],
            Graph = data.Graph is { } graph ? Absolute(graph) : null,
            Cache = Absolute(data.Cache ?? DefaultCacheFolder),
        };

        string Absolute(string path) => Path.GetFullPath(path, Path.GetFullPath(baseFolder));
    }
}
