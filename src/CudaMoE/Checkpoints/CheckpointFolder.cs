using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace CudaMoE.Checkpoints;

/// <summary>
/// A checkpoint: a folder with the model's description, its encoders, weights, optimiser state, training state, and a manifest
/// with the length and SHA-256 of each. A folder under its final name is complete; <see cref="Open"/> refuses one that was altered since.
/// </summary>
public sealed class CheckpointFolder
{
    /// <summary>The model's description.</summary>
    public const string ModelFile = "model.json";

    /// <summary>Vocabularies and fitted transforms; absent for a model without data.</summary>
    public const string EncodersFile = "encoders.json";

    /// <summary>Parameters by their dotted names.</summary>
    public const string WeightsFile = "weights.safetensors";

    /// <summary>Optimiser state by parameter; absent in a checkpoint that is for inference only.</summary>
    public const string OptimizerFile = "optimizer.safetensors";

    /// <summary>The <see cref="TrainingState"/>.</summary>
    public const string StateFile = "state.json";

    /// <summary>Lengths and hashes of the others.</summary>
    public const string ManifestFile = "manifest.json";

    internal static readonly string[] RequiredFiles = [ModelFile, WeightsFile, StateFile];
    internal static readonly string[] AllFiles = [ModelFile, EncodersFile, WeightsFile, OptimizerFile, StateFile];

    private readonly CheckpointManifest _manifest;

    private CheckpointFolder(string path, CheckpointManifest manifest, TrainingState state)
    {
        Folder = path;
        _manifest = manifest;
        State = state;
    }

    /// <summary>Its path.</summary>
    public string Folder { get; }

    /// <summary>Where the run stood.</summary>
    public TrainingState State { get; }

    /// <summary>The files with length and hash.</summary>
    public IReadOnlyDictionary<string, FileDigest> Files => _manifest.Files;

    /// <summary>Path of the model's description.</summary>
    public string ModelPath => PathOf(ModelFile);

    /// <summary>Path of the encoders; null when there are none.</summary>
    public string? EncodersPath => _manifest.Files.ContainsKey(EncodersFile) ? PathOf(EncodersFile) : null;

    /// <summary>Path of the weights.</summary>
    public string WeightsPath => PathOf(WeightsFile);

    /// <summary>Path of the optimiser state; null when there is none.</summary>
    public string? OptimizerPath => _manifest.Files.ContainsKey(OptimizerFile) ? PathOf(OptimizerFile) : null;

    /// <summary>
    /// Opens a checkpoint: every file of the manifest must be there with its length and hash, and no other file may be (names that begin
    /// with a dot are left alone). Reads all files once.
    /// </summary>
    /// <exception cref="CheckpointFormatException">The folder is missing, incomplete or altered; the message names the file.</exception>
    public static CheckpointFolder Open(string path)
    {
        try
        {
            return OpenChecked(path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointFormatException(path, $"cannot be read: {error.Message}", error);
        }
    }

    /// <summary>Whether its folder is gone since it was opened, as when a run deletes its older checkpoints. Files that are open by then can be read to their end.</summary>
    public bool IsDeleted => !Directory.Exists(Folder);

    /// <summary>Loads from the files; where that fails and the checkpoint is gone, says so.</summary>
    /// <exception cref="CheckpointFormatException">The checkpoint was deleted meanwhile.</exception>
    internal T Load<T>(Func<CheckpointFolder, T> load)
    {
        try
        {
            return load(this);
        }
        catch (Exception error) when (IsDeleted)
        {
            throw new CheckpointFormatException(Folder, "was deleted while it was being loaded; a run keeps the latest checkpoint, the best and a few of the newest: load one of them", error);
        }
    }

    /// <summary>Reads the weights' file.</summary>
    public SafetensorsReader OpenWeights() => SafetensorsReader.Open(WeightsPath);

    /// <summary>Reads the optimiser's file.</summary>
    /// <exception cref="CheckpointFormatException">The checkpoint has none: training cannot go on from it.</exception>
    public SafetensorsReader OpenOptimizer() => SafetensorsReader.Open(
        OptimizerPath ?? throw new CheckpointFormatException(Folder, $"has no {OptimizerFile}; training cannot go on from it"));

    /// <summary>Writes the files into an empty folder, the manifest last.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="content">What goes in.</param>
    /// <param name="stage">Called with each file's name before it is written.</param>
    internal static void WriteInto(string path, CheckpointContent content, Action<string> stage)
    {
        SortedDictionary<string, FileDigest> files = new(StringComparer.Ordinal);
        Put(ModelFile, file => AtomicFile.Write(file, content.WriteModel));
        if (content.WriteEncoders is { } writeEncoders)
            Put(EncodersFile, file => AtomicFile.Write(file, writeEncoders));
        Put(WeightsFile, file => SaveTensors(file, content.AddWeights));
        if (content.AddOptimizer is { } addOptimizer)
            Put(OptimizerFile, file => SaveTensors(file, addOptimizer));
        Put(StateFile, file => AtomicFile.Write(file, JsonSerializer.SerializeToUtf8Bytes(content.State, CheckpointJson.Default.TrainingState)));
        stage(ManifestFile);
        CheckpointManifest manifest = new(CheckpointManifest.FormatName, CheckpointManifest.CurrentVersion, files);
        AtomicFile.Write(Path.Combine(path, ManifestFile), JsonSerializer.SerializeToUtf8Bytes(manifest, CheckpointJson.Default.CheckpointManifest));

        void Put(string name, Func<string, FileDigest> write)
        {
            stage(name);
            files.Add(name, write(Path.Combine(path, name)));
        }

        static FileDigest SaveTensors(string file, Action<SafetensorsWriter> add)
        {
            SafetensorsWriter writer = new();
            add(writer);
            return writer.Save(file);
        }
    }

    private static CheckpointFolder OpenChecked(string path)
    {
        if (!Directory.Exists(path))
            throw new CheckpointFormatException(path, "is not a folder");
        string manifestPath = Path.Combine(path, ManifestFile);
        if (!File.Exists(manifestPath))
            throw new CheckpointFormatException(path, $"has no {ManifestFile}; it is not a complete checkpoint");
        CheckpointManifest manifest = ReadJson(manifestPath, CheckpointJson.Default.CheckpointManifest);
        if (manifest.Format != CheckpointManifest.FormatName)
            throw new CheckpointFormatException(manifestPath, $"has format \"{manifest.Format}\"; it must be \"{CheckpointManifest.FormatName}\"");
        if (manifest.Version != CheckpointManifest.CurrentVersion)
            throw new CheckpointFormatException(manifestPath, $"has version {manifest.Version}; this library reads version {CheckpointManifest.CurrentVersion}");
        foreach (string name in manifest.Files.Keys)
        {
            if (Array.IndexOf(AllFiles, name) < 0)
                throw new CheckpointFormatException(manifestPath, $"lists \"{name}\"; a checkpoint holds {string.Join(", ", AllFiles)}");
        }

        foreach (string name in RequiredFiles)
        {
            if (!manifest.Files.ContainsKey(name))
                throw new CheckpointFormatException(manifestPath, $"does not list {name}");
        }

        foreach (string entry in Directory.EnumerateFileSystemEntries(path))
        {
            string name = Path.GetFileName(entry);
            if (name != ManifestFile && !name.StartsWith('.') && !manifest.Files.ContainsKey(name))
                throw new CheckpointFormatException(entry, $"is not listed in {ManifestFile}; remove it or open the untouched checkpoint");
        }

        foreach ((string name, FileDigest expected) in manifest.Files)
            CheckFile(Path.Combine(path, name), expected);
        return new(path, manifest, ReadJson(Path.Combine(path, StateFile), CheckpointJson.Default.TrainingState));
    }

    private static void CheckFile(string file, FileDigest expected)
    {
        FileInfo info = new(file);
        if (!info.Exists)
            throw new CheckpointFormatException(file, $"is missing; {ManifestFile} lists it");
        if (info.Length != expected.Length)
            throw new CheckpointFormatException(file, $"has {info.Length} bytes; {ManifestFile} says {expected.Length}: the file is truncated or was altered");
        FileDigest found = FileDigest.Of(file);
        if (found != expected)
            throw new CheckpointFormatException(file, $"has SHA-256 {found.Sha256}; {ManifestFile} says {expected.Sha256}: the file was altered");
    }

    private static T ReadJson<T>(string file, JsonTypeInfo<T> type)
    {
        byte[] bytes = File.ReadAllBytes(file);
        try
        {
            return JsonSerializer.Deserialize(bytes, type) ?? throw new CheckpointFormatException(file, "holds null");
        }
        catch (JsonException error)
        {
            throw new CheckpointFormatException(file, $"is not what was written: {error.Message}", error);
        }
    }

    private string PathOf(string name) => Path.Combine(Folder, name);
}

/// <summary>What a checkpoint is made of.</summary>
public sealed record CheckpointContent
{
    /// <summary>Writes the model's description.</summary>
    public required Action<Stream> WriteModel { get; init; }

    /// <summary>Writes the encoders; null for a model without data.</summary>
    public Action<Stream>? WriteEncoders { get; init; }

    /// <summary>Adds the parameters.</summary>
    public required Action<SafetensorsWriter> AddWeights { get; init; }

    /// <summary>Adds the optimiser's state; null when training will not go on from it.</summary>
    public Action<SafetensorsWriter>? AddOptimizer { get; init; }

    /// <summary>Where the run stands.</summary>
    public required TrainingState State { get; init; }
}
