namespace CudaMoE.Description;

/// <summary>One input of the model, from one column.</summary>
public sealed record FeatureDescription
{
    /// <summary>Unique among the features.</summary>
    public required string Name { get; init; }

    /// <summary>The column it is read from; null = a column of the feature's name.</summary>
    public string? Column { get; init; }

    /// <summary>What kind of value it is.</summary>
    public required FeatureType Type { get; init; }

    /// <summary>Width of the embedding, for categorical, multi-hot, sequence and quantile-bucketed features.</summary>
    [NumberRange(1, 65536)]
    public int? Dimension { get; init; }

    /// <summary>How text becomes a row of the embedding table; row 0 is the unknown value.</summary>
    public CategoryEncoding Encoding { get; init; } = CategoryEncoding.Vocabulary;

    /// <summary>Rows of the table (unknown included) for hashing; upper limit of the vocabulary, rarest dropped first, when set there; number of
    /// ids for identity; number of buckets for quantile.</summary>
    [NumberRange(2, 2147483647)]
    public int? Buckets { get; init; }

    /// <summary>Values seen less often than this in the training rows are unknown (vocabulary only).</summary>
    [NumberRange(1)]
    public int MinCount { get; init; } = 1;

    /// <summary>Name of the embedding table; features that name the same one share it (same dimension and encoding). Null = the feature's own.</summary>
    public string? Table { get; init; }

    /// <summary>Where the embedding table lies, with its optimiser states; null = in the device's memory. Features that share a table need the same.</summary>
    public TableStorage? Storage { get; init; }

    /// <summary>Character between the values of a multi-hot feature, of a sequence or of a vector.</summary>
    public string ValueSeparator { get; init; } = "|";

    /// <summary>How the rows of a multi-hot feature are pooled.</summary>
    public PoolingKind Pooling { get; init; } = PoolingKind.Mean;

    /// <summary>
    /// Values kept of a multi-hot feature, the first ones; null = as many as the longest of the training rows. Of a sequence, which needs it and has at most 4096:
    /// the positions, and which values are kept says <see cref="Keep"/>.
    /// </summary>
    [NumberRange(1)]
    public int? MaxLength { get; init; }

    /// <summary>Which values of a sequence that is longer than <see cref="MaxLength"/> are kept.</summary>
    public SequenceEnd Keep { get; init; } = SequenceEnd.Last;

    /// <summary>What a dense value goes through; everything it needs is fitted on the training rows.</summary>
    public DenseTransform Transform { get; init; } = DenseTransform.Standardize;

    /// <summary>Width of a vector feature.</summary>
    [NumberRange(1, 65536)]
    public int? Size { get; init; }
}

/// <summary>Where an embedding table lies.</summary>
public sealed record TableStorage
{
    /// <summary>Whose memory holds the table and its optimiser states.</summary>
    public StoragePlace Place { get; init; } = StoragePlace.Device;

    /// <summary>Of a table in host memory: rows that the device's memory holds beside, those that were used last; rounded up to a multiple of 8. Null = none.</summary>
    [NumberRange(8)]
    public int? CacheRows { get; init; }
}

/// <summary>Memories for tables.</summary>
public enum StoragePlace
{
    /// <summary>The device's own.</summary>
    Device,

    /// <summary>The host's, page-locked, which a GPU reads and writes over the bus: for tables that are larger than its memory.</summary>
    Host,
}

/// <summary>Kinds of feature.</summary>
public enum FeatureType
{
    /// <summary>One value of many, embedded.</summary>
    Categorical,

    /// <summary>Several values, embedded and pooled.</summary>
    MultiHot,

    /// <summary>Several values in order, each embedded at a position of its own; positions behind the last value are zeros.</summary>
    Sequence,

    /// <summary>A number.</summary>
    Dense,

    /// <summary>Several numbers computed beforehand, taken as they are.</summary>
    Vector,
}

/// <summary>How text becomes a table row.</summary>
public enum CategoryEncoding
{
    /// <summary>A vocabulary of the training rows; what it lacks is row 0.</summary>
    Vocabulary,

    /// <summary>A stable 64-bit hash modulo the number of rows less one, plus one; the missing value is row 0.</summary>
    Hash,

    /// <summary>The text is the id, 1 to buckets - 1; anything else is row 0.</summary>
    Identity,
}

/// <summary>Pooling of several embeddings.</summary>
public enum PoolingKind
{
    /// <summary>Their sum.</summary>
    Sum,

    /// <summary>Their mean; zeros when there is none.</summary>
    Mean,
}

/// <summary>The values that are kept of a sequence that is too long.</summary>
public enum SequenceEnd
{
    /// <summary>The last ones: the latest of a history in the order of time.</summary>
    Last,

    /// <summary>The first ones.</summary>
    First,
}

/// <summary>Transforms of a dense value. A missing value becomes the training mean before the transform (bucket 0 for quantile).</summary>
public enum DenseTransform
{
    /// <summary>The number itself.</summary>
    None,

    /// <summary>(x - mean) / standard deviation; 0 when that is 0.</summary>
    Standardize,

    /// <summary>(x - min) / (max - min), clamped to 0..1; 0 when max = min.</summary>
    MinMax,

    /// <summary>sign(x) * log(1 + |x|), then standardised.</summary>
    Log,

    /// <summary>The index of the training quantile that x falls in, 1 to buckets, embedded like a category.</summary>
    Quantile,
}
