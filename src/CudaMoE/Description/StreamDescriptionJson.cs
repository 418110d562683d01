using System.Text.Json;

namespace CudaMoE.Description;

/// <summary>Stream descriptions as JSON, under the same strict rules as model files, see <see cref="DescriptionJson"/>.</summary>
public static class StreamDescriptionJson
{
    /// <summary>Reads and validates a stream file. Relative paths in it start at its folder and come out absolute.</summary>
    /// <exception cref="DescriptionException">It cannot be read or is wrong; the message begins with the path and the line.</exception>
    public static StreamDescription Load(string path) => DescriptionFile.Load(path, Parse);

    /// <summary>Reads and validates JSON text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="baseFolder">Where relative paths start; null leaves them as written.</param>
    /// <exception cref="DescriptionException">The text is wrong; the message begins with the line.</exception>
    public static StreamDescription Parse(string text, string? baseFolder = null)
    {
        StreamDescription description = DescriptionFile.Parse(text, DescriptionContext.Default.StreamDescription, StreamRules.Check);
        return baseFolder is null ? description : Resolve(description, Path.GetFullPath(baseFolder));
    }

    /// <summary>The JSON of a description, with every default written out.</summary>
    public static string Write(StreamDescription description) => JsonSerializer.Serialize(description, DescriptionContext.Default.StreamDescription) + "\n";

    /// <summary>Checks every rule of a description that a program made.</summary>
    /// <exception cref="DescriptionException">A rule is broken.</exception>
    public static void Validate(StreamDescription description) => StreamRules.Check(description);

    private static StreamDescription Resolve(StreamDescription description, string folder) => description with
    {
        Data = description.Data with { Log = [.. description.Data.Log.Select(file => Path.GetFullPath(file, folder))] },
        Items = description.Items is null ? null : description.Items with { File = Path.GetFullPath(description.Items.File, folder) },
        Modalities =
        [
            .. description.Modalities.Select(modality => modality with
            {
                File = Resolve(modality.File, folder),
                Encoder = Resolve(modality.Encoder, folder),
                Pixels = Resolve(modality.Pixels, folder),
            }),
        ],
    };

    private static string? Resolve(string? path, string folder) => path is null ? null : Path.GetFullPath(path, folder);
}
