using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using CudaMoE.Checkpoints;
using CudaMoE.Description;

namespace CudaMoE.Data;

/// <summary>
/// How text becomes numbers: everything about the inputs and labels that was learned from the training rows, and the parts of the
/// description that say how to read a file. It is part of a checkpoint (<c>encoders.json</c>), so that new files are encoded as the
/// training rows were, without them.
/// </summary>
public sealed class FittedEncoders
{
    /// <summary>The file's name in a checkpoint.</summary>
    public const string FileName = "encoders.json";

    // For reading: every key must be there, since the generated code gives absent ones no default.
    private static readonly JsonTypeInfo<EncodersDocument> Complete =
        (JsonTypeInfo<EncodersDocument>)new JsonSerializerOptions(EncodersJson.Default.Options)
        {
            TypeInfoResolver = EncodersJson.Default.WithAddedModifier(RequireAll),
        }.GetTypeInfo(typeof(EncodersDocument));

    private readonly EncodersDocument _document;

    internal FittedEncoders(EncodersDocument document)
    {
        _document = document;
        Dictionary<string, FittedTable> tables = document.Tables.ToDictionary(table => table.Name, StringComparer.Ordinal);
        List<SparseInput> sparse = [];
        int denseWidth = 0;
        foreach (FittedFeature feature in document.Features)
        {
            FeatureDescription description = feature.Description;
            if (feature.Table is null)
            {
                denseWidth += description.Type == FeatureType.Vector ? description.Size!.Value : 1;
                continue;
            }

            FittedTable table = tables[feature.Table];
            bool list = FeatureRules.IsList(description);
            int positions = description.Type == FeatureType.Sequence ? feature.MaxLength : 0;
            sparse.Add(new(description.Name, table.Name, table.Rows, table.Dimension, list, description.Pooling, list ? feature.MaxLength : 1, positions));
        }

        Layout = new(sparse, denseWidth, document.Tasks.Count);
    }

    /// <summary>How the training files are written; new files are read alike unless another format is given.</summary>
    public FileFormat Format => _document.Format;

    /// <summary>The column that groups rows; null for none.</summary>
    public string? GroupColumn => _document.GroupColumn;

    /// <summary>Rows that the encoders were fitted on.</summary>
    public long TrainingRows => _document.TrainingRows;

    /// <summary>The features in order.</summary>
    public IReadOnlyList<FittedFeature> Features => _document.Features;

    /// <summary>The embedding tables, in the order of the features that first name them.</summary>
    public IReadOnlyList<FittedTable> Tables => _document.Tables;

    /// <summary>The tasks in order.</summary>
    public IReadOnlyList<FittedTask> Tasks => _document.Tasks;

    /// <summary>The shape of the batches.</summary>
    public BatchLayout Layout { get; }

    /// <summary>A hash of everything here; equal for equal encoders.</summary>
    public string Fingerprint => XxHash64.Hash(ToUtf8Json()).ToString("x16", System.Globalization.CultureInfo.InvariantCulture);

    internal EncodersDocument Document => _document;

    /// <summary>Reads what <see cref="Save(Stream)"/> wrote.</summary>
    /// <exception cref="DataException">The file is missing, is not JSON, or does not hold encoders; the message says which.</exception>
    public static FittedEncoders Load(string path)
    {
        byte[] json;
        using (FileStream file = TextFile.Open(path))
        {
            json = new byte[file.Length];
            file.ReadExactly(json);
        }

        return Parse(json, path);
    }

    /// <summary>Writes a file; it appears whole or not at all.</summary>
    public void Save(string path) => AtomicFile.Write(path, ToUtf8Json());

    /// <summary>Writes the JSON to a stream, as a checkpoint does.</summary>
    public void Save(Stream stream) => stream.Write(ToUtf8Json());

    /// <summary>These encoders with what only the model uses (dimensions, pooling, where tables lie, loss weights, given tasks) as a description has it.</summary>
    /// <exception cref="DataException">The description has other features or tasks.</exception>
    internal FittedEncoders With(ModelDescription description)
    {
        Dictionary<string, int> dimensions = [];
        if (description.Features.Count != Features.Count || description.Tasks.Count != Tasks.Count)
        {
            throw new DataException(
                $"the encoders have {Features.Count} features and {Tasks.Count} tasks; the description has {description.Features.Count} and {description.Tasks.Count}");
        }

        FittedFeature[] features = new FittedFeature[Features.Count];
        for (int i = 0; i < features.Length; i++)
        {
            FeatureDescription mine = Features[i].Description;
            FeatureDescription theirs = description.Features[i];
            if (mine with { Dimension = theirs.Dimension, Pooling = theirs.Pooling, Storage = theirs.Storage } != theirs)
                throw new DataException(
                    $"the encoders' feature \"{mine.Name}\" is not the description's \"{theirs.Name}\", or is described otherwise");
            features[i] = Features[i] with { Description = theirs };
            if (features[i].Table is { } table && theirs.Dimension is { } dimension)
                dimensions[table] = dimension;
        }

        FittedTask[] tasks = new FittedTask[Tasks.Count];
        for (int i = 0; i < tasks.Length; i++)
        {
            TaskDescription mine = Tasks[i].Description;
            TaskDescription theirs = description.Tasks[i];
            if (Serialize(mine with { Weight = theirs.Weight, Given = theirs.Given }) != Serialize(theirs))
                throw new DataException(
                    $"the encoders' task \"{mine.Name}\" is not the description's \"{theirs.Name}\", or is described otherwise");
            tasks[i] = Tasks[i] with { Description = theirs };
        }

        FittedTable[] tables = [.. Tables.Select(table => table with { Dimension = dimensions.GetValueOrDefault(table.Name, table.Dimension) })];
        return new(_document with { Features = features, Tasks = tasks, Tables = tables });

        static string Serialize(TaskDescription task) => JsonSerializer.Serialize(task, EncodersJson.Default.TaskDescription);
    }

    internal static FittedEncoders Parse(ReadOnlySpan<byte> json, string path)
    {
        EncodersDocument? document;
        try
        {
            document = JsonSerializer.Deserialize(json, Complete);
        }
        catch (JsonException error)
        {
            throw new DataException(
                $"these are not encoders that this version of CudaMoE wrote: {error.Message}", path, (error.LineNumber ?? -1) + 1, null, error);
        }

        if (document is null || document.Version != EncodersDocument.CurrentVersion)
        {
            throw new DataException(
                $"encoders of version {document?.Version ?? 0}; this program reads version {EncodersDocument.CurrentVersion}", path);
        }

        string? fault = document.FindFault();
        return fault is null ? new(document) : throw new DataException($"the encoders contradict themselves: {fault}", path);
    }

    private static void RequireAll(JsonTypeInfo type)
    {
        foreach (JsonPropertyInfo property in type.Properties)
            property.IsRequired = property.Set is not null;
    }

    internal byte[] ToUtf8Json() => JsonSerializer.SerializeToUtf8Bytes(_document, EncodersJson.Default.EncodersDocument);
}

/// <summary>A feature with what was learned about it.</summary>
public sealed record FittedFeature
{
    /// <summary>The feature as described.</summary>
    public required FeatureDescription Description { get; init; }

    /// <summary>The embedding table; null for numbers that are not embedded.</summary>
    public string? Table { get; init; }

    /// <summary>Values kept of a multi-hot feature or a sequence: the described limit, else the longest bag of the training rows; at least 1.</summary>
    public int MaxLength { get; init; } = 1;

    /// <summary>Quantile: the least value of buckets 2, 3, ..., ascending; values below the first are in bucket 1.</summary>
    public IReadOnlyList<double>? Boundaries { get; init; }

    /// <summary>Mean of the log-transformed values (transform log only).</summary>
    public double LogMean { get; init; }

    /// <summary>Standard deviation of the log-transformed values (transform log only).</summary>
    public double LogDeviation { get; init; }

    /// <summary>What the training rows hold.</summary>
    public required FeatureStatistics Statistics { get; init; }

    /// <summary>The column it is read from.</summary>
    [JsonIgnore]
    public string Column => Description.Column ?? Description.Name;
}

/// <summary>What the training rows hold of a feature.</summary>
public sealed record FeatureStatistics
{
    /// <summary>Rows with a value.</summary>
    public long Present { get; init; }

    /// <summary>Rows without.</summary>
    public long Missing { get; init; }

    /// <summary>Values of all rows (multi-hot and vector features have several a row).</summary>
    public long Values { get; init; }

    /// <summary>Distinct values of the embedding table's features together (vocabulary only).</summary>
    public long Distinct { get; init; }

    /// <summary>Mean of the numbers; 0 when there is none.</summary>
    public double Mean { get; init; }

    /// <summary>Standard deviation of the numbers (of the population); 0 when there is none.</summary>
    public double Deviation { get; init; }

    /// <summary>Least number; 0 when there is none.</summary>
    public double Minimum { get; init; }

    /// <summary>Greatest number; 0 when there is none.</summary>
    public double Maximum { get; init; }
}

/// <summary>An embedding table.</summary>
public sealed record FittedTable
{
    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>Its rows, the unknown row 0 included.</summary>
    public required int Rows { get; init; }

    /// <summary>Width of a row.</summary>
    public required int Dimension { get; init; }

    /// <summary>Vocabulary: the text of rows 1, 2, ...; null for other encodings.</summary>
    public IReadOnlyList<string>? Vocabulary { get; init; }
}

/// <summary>A task with what was learned about its labels.</summary>
public sealed record FittedTask
{
    /// <summary>The task as described.</summary>
    public required TaskDescription Description { get; init; }

    /// <summary>Multi-class: the text of class 0, 1, ...; null for other tasks.</summary>
    public IReadOnlyList<string>? Classes { get; init; }

    /// <summary>Mean of the labels that are trained on (for regression in their own unit; for binary tasks the positive rate).</summary>
    public double LabelMean { get; init; }

    /// <summary>Standard deviation of those labels; transform standardize divides by it, or by 1 when it is 0.</summary>
    public double LabelDeviation { get; init; }

    /// <summary>Training rows with a label and a weight above 0.</summary>
    public long Trained { get; init; }

    /// <summary>Training rows without a label.</summary>
    public long Missing { get; init; }

    /// <summary>Training rows that the mask leaves out.</summary>
    public long Masked { get; init; }

    /// <summary>Multi-class: training rows of each class; null for other tasks.</summary>
    public IReadOnlyList<long>? ClassCounts { get; init; }

    /// <summary>The label's column.</summary>
    [JsonIgnore]
    public string Column => Description.Column ?? Description.Name;

    /// <summary>Logits of the task: 1, or the number of classes.</summary>
    [JsonIgnore]
    public int Outputs => Classes?.Count ?? 1;

    /// <summary>A label in its own unit, from the transformed one that the model predicts (regression); else the value itself.</summary>
    public double Restore(double value) => Description.Type != TaskType.Regression
        ? value
        : Description.Transform switch
        {
            LabelTransform.Standardize => (value * (LabelDeviation == 0 ? 1 : LabelDeviation)) + LabelMean,
            LabelTransform.Log => Math.Exp(value) - 1,
            _ => value,
        };
}

/// <summary>The content of <c>encoders.json</c>.</summary>
internal sealed record EncodersDocument
{
    public const int CurrentVersion = 1;

    public required int Version { get; init; }

    public required FileFormat Format { get; init; }

    public string? GroupColumn { get; init; }

    public required long TrainingRows { get; init; }

    public required IReadOnlyList<FittedFeature> Features { get; init; }

    public required IReadOnlyList<FittedTable> Tables { get; init; }

    public required IReadOnlyList<FittedTask> Tasks { get; init; }

    /// <summary>What an edited file may have broken and the encoders rely on; null when nothing is.</summary>
    public string? FindFault()
    {
        Dictionary<string, FittedTable> tables = new(StringComparer.Ordinal);
        foreach (FittedTable table in Tables)
        {
            if (!tables.TryAdd(table.Name, table))
                return $"table \"{table.Name}\" is there twice";
            if (table.Rows < 1 || table.Dimension < 1)
                return $"table \"{table.Name}\" has {table.Rows} rows of width {table.Dimension}";
            if (table.Vocabulary is { } vocabulary && (vocabulary.Count != table.Rows - 1 || vocabulary.Distinct().Count() != vocabulary.Count))
                return $"table \"{table.Name}\" has {table.Rows} rows, but a vocabulary of {vocabulary.Distinct().Count()} texts";
        }

        foreach (FittedFeature feature in Features)
        {
            FeatureDescription description = feature.Description;
            bool embedded = FeatureRules.IsEmbedded(description);
            if (embedded != feature.Table is not null || (feature.Table is not null && !tables.ContainsKey(feature.Table)))
                return $"feature \"{description.Name}\" has the table {feature.Table ?? "null"}";
            if (FeatureRules.IsCategory(description)
                && (description.Encoding == CategoryEncoding.Vocabulary) != (tables[feature.Table!].Vocabulary is not null))
                return $"feature \"{description.Name}\" and its table disagree on a vocabulary";
            if (description.Type == FeatureType.Dense && embedded
                && (feature.Boundaries is null || feature.Boundaries.Count + 2 > tables[feature.Table!].Rows))
                return $"feature \"{description.Name}\" lacks its boundaries or has more than its table has rows";
            if (description.Type == FeatureType.Vector && description.Size is null or < 1)
                return $"feature \"{description.Name}\" has no size";
            if (feature.MaxLength < 1)
                return $"feature \"{description.Name}\" has max_length {feature.MaxLength}";
        }

        foreach (FittedTask task in Tasks)
        {
            if ((task.Description.Type == TaskType.Multiclass) != task.Classes is not null)
                return $"task \"{task.Description.Name}\" has classes if, and only if, it is multi-class";
        }

        return null;
    }
}

[JsonSourceGenerationOptions(
    WriteIndented = true,
    NewLine = "\n",
    IndentSize = 1,
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
    RespectNullableAnnotations = true,
    Converters =
    [
        typeof(SnakeCaseEnumConverter<FeatureType>),
        typeof(SnakeCaseEnumConverter<CategoryEncoding>),
        typeof(SnakeCaseEnumConverter<PoolingKind>),
        typeof(SnakeCaseEnumConverter<SequenceEnd>),
        typeof(SnakeCaseEnumConverter<DenseTransform>),
        typeof(SnakeCaseEnumConverter<TaskType>),
        typeof(SnakeCaseEnumConverter<LabelTransform>),
    ])]
[JsonSerializable(typeof(EncodersDocument))]
[JsonSerializable(typeof(CacheManifest))]
internal sealed partial class EncodersJson : JsonSerializerContext;
