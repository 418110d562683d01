using CudaMoE.Description;

namespace CudaMoE.Data;

/// <summary>
/// The rows of a described data set, encoded and memory-mapped. Opening it the first time reads the text files and builds a binary cache;
/// later times map that. Rows never pass through managed memory, so files may be larger than memory.
/// </summary>
public sealed class Dataset : IDisposable
{
    private Dataset(FittedEncoders encoders, string cacheFolder, bool wasBuilt, IReadOnlyList<string> notices)
    {
        Encoders = encoders;
        CacheFolder = cacheFolder;
        WasBuilt = wasBuilt;
        Notices = notices;
    }

    /// <summary>The training rows.</summary>
    public DatasetSplit Train { get; private set; } = null!;

    /// <summary>The validation rows; null when the description has none.</summary>
    public DatasetSplit? Validation { get; private set; }

    /// <summary>The test rows; null when the description has none.</summary>
    public DatasetSplit? Test { get; private set; }

    /// <summary>How text becomes numbers; part of a checkpoint.</summary>
    public FittedEncoders Encoders { get; }

    /// <summary>The shape of the batches.</summary>
    public BatchLayout Layout => Encoders.Layout;

    /// <summary>The folder that holds the cache.</summary>
    public string CacheFolder { get; }

    /// <summary>Whether the cache was built now, not found.</summary>
    public bool WasBuilt { get; }

    /// <summary>What a user should know though it is no error: a damaged cache that was rebuilt, positive texts that never occur, empty
    /// features.</summary>
    public IReadOnlyList<string> Notices { get; }

    /// <summary>Opens the data of a description; builds the cache where there is none that fits. Safe in several processes at once: one
    /// builds, the others wait for it.</summary>
    /// <param name="description">The model with its data.</param>
    /// <param name="baseFolder">Where relative paths start: the model file's folder.</param>
    /// <param name="encoders">Encoders of a checkpoint, to read the files as its training rows were; null = fit them on the training
    /// rows.</param>
    /// <param name="progress">Called now and then while the cache is built, on this thread.</param>
    /// <param name="cancellation">Stops the building; nothing is left behind.</param>
    /// <exception cref="DataException">A file is missing or breaks a rule.</exception>
    /// <exception cref="DescriptionException">The description has no data, or breaks a rule.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static Dataset Open(
        ModelDescription description,
        string baseFolder,
        FittedEncoders? encoders = null,
        Action<DatasetProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        DescriptionValidator.Validate(description);
        DataDescription data = description.Data ?? throw new DescriptionException("data is missing; a data set is opened from it");
        DataSources sources = DataSources.Resolve(data, baseFolder);
        encoders = encoders?.With(description);
        string root = Path.GetFullPath(data.Cache ?? ".cudamoe-cache", Path.GetFullPath(baseFolder));
        CacheStore store = new(root, sources.Key(description, encoders));
        CacheBuilder builder = new(description, sources, progress, cancellation);
        CacheManifest manifest = store.OpenOrBuild(
            (folder, key) => builder.Build(folder, key, encoders), cancellation, out bool wasBuilt, out string? notice);

        FittedEncoders fitted = encoders ?? FittedEncoders.Load(Path.Combine(store.Folder, FittedEncoders.FileName)).With(description);
        IReadOnlyList<string> notices = notice is null ? manifest.Notices : [notice, .. manifest.Notices];
        Dataset dataset = new(fitted, store.Folder, wasBuilt, notices);
        try
        {
            foreach (CacheSplit split in manifest.Splits)
            {
                DatasetSplit mapped = new(store.Folder, split, fitted);
                switch (split.Name)
                {
                    case DatasetSplit.TrainName:
                        dataset.Train = mapped;
                        break;
                    case DatasetSplit.ValidationName:
                        dataset.Validation = mapped;
                        break;
                    default:
                        dataset.Test = mapped;
                        break;
                }
            }

            return dataset;
        }
        catch
        {
            dataset.Dispose();
            throw;
        }
    }

    /// <summary>Opens a file of new rows, to be read once, in order.</summary>
    /// <param name="encoders">The encoders of a checkpoint.</param>
    /// <param name="path">The file.</param>
    /// <param name="withLabels">Whether labels, weights and groups are read; if not, their columns may be absent.</param>
    /// <param name="format">How the file is written; null = as the training files.</param>
    /// <exception cref="DataException">The file is missing, empty or lacks a column.</exception>
    public static PredictionReader OpenForPrediction(
        FittedEncoders encoders, string path, bool withLabels = false, FileFormat? format = null) =>
        new(encoders, path, withLabels, format ?? encoders.Format);

    /// <summary>Unmaps the files as soon as no loader uses them.</summary>
    public void Dispose()
    {
        Train?.Dispose();
        Validation?.Dispose();
        Test?.Dispose();
    }
}
