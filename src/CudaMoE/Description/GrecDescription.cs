namespace CudaMoE.Description;

/// <summary>
/// The generalist recommender (Yang et al., CIKM 2023): sequence, context, text and current item become tokens of one width; with a task token they are mixed by a
/// transformer block and go through a sparse mixture of experts. Features that no list names are context; sequence features are the sequence.
/// </summary>
public sealed record GrecDescription
{
    /// <summary>Width of every token; 256 in the released model.</summary>
    [NumberRange(2, 8192)]
    public int Width { get; init; } = 64;

    /// <summary>Features of the current item, one token: categorical and multi-hot ones.</summary>
    public IReadOnlyList<string> Current { get; init; } = [];

    /// <summary>Whether a linear layer makes the current item's token; without it the embeddings themselves are the token, side by side, as wide as it together.</summary>
    public bool CurrentLayer { get; init; } = true;

    /// <summary>Features of the text, one token: multi-hot ones, e.g. words hashed into buckets, and vectors, e.g. of a sentence encoder.</summary>
    public IReadOnlyList<string> Text { get; init; } = [];

    /// <summary>
    /// The factors of a position, each a list of sequence features whose embeddings stand side by side; the factors are as wide as each other and are multiplied. Empty = each
    /// sequence feature is a factor.
    /// </summary>
    public IReadOnlyList<IReadOnlyList<string>> Sequence { get; init; } = [];

    /// <summary>Transformer blocks over the sequence; 0 = none.</summary>
    [NumberRange(0, 64)]
    public int Blocks { get; init; } = 2;

    /// <summary>Query heads of those blocks, which share one key and value head.</summary>
    [NumberRange(1, 256)]
    public int Heads { get; init; } = 1;

    /// <summary>Width of a head; null = width / heads.</summary>
    [NumberRange(1, 256)]
    public int? HeadWidth { get; init; }

    /// <summary>Width of the gated layer of a transformer block; null = 4 * width.</summary>
    [NumberRange(1, 65536)]
    public int? FeedForward { get; init; }

    /// <summary>How the positions of the sequence become one vector.</summary>
    public SequencePooling Pooling { get; init; } = SequencePooling.MeanMax;

    /// <summary>What stands behind the last value of a sequence.</summary>
    public SequencePadding Padding { get; init; } = SequencePadding.Masked;

    /// <summary>What decides which experts a token goes to.</summary>
    public RoutingLevel Routing { get; init; } = RoutingLevel.TaskSentence;

    /// <summary>Choices that an expert takes of the tokens of one sample and task, in the order of the tokens; null = no limit.</summary>
    [NumberRange(1)]
    public int? TokenCapacity { get; init; }

    /// <summary>What a choice beyond <see cref="TokenCapacity"/> gives.</summary>
    public CapacityOverflow Overflow { get; init; } = CapacityOverflow.Drop;
}

/// <summary>What stands behind the last value of a sequence.</summary>
public enum SequencePadding
{
    /// <summary>Nothing: the pooling leaves these positions out.</summary>
    Masked,

    /// <summary>Row 0 of the tables: the attention does not see these positions, but the pooling counts them, as in the released model.</summary>
    FirstRow,
}

/// <summary>What a choice beyond the capacity of its expert gives.</summary>
public enum CapacityOverflow
{
    /// <summary>Nothing: the token keeps its residual alone.</summary>
    Drop,

    /// <summary>The normalised token in place of the expert's output, times the choice's weight, as in the released model.</summary>
    Pass,
}

/// <summary>How the positions of a sequence become one vector.</summary>
public enum SequencePooling
{
    /// <summary>Their mean.</summary>
    Mean,

    /// <summary>Their mean beside a smooth maximum of each column: its values weighted by softmax(10 * value).</summary>
    MeanMax,

    /// <summary>Their mean beside the maximum of each column, as in the released model.</summary>
    MeanHardMax,
}

/// <summary>What a router of a grec model reads.</summary>
public enum RoutingLevel
{
    /// <summary>Each token alone; there is no task token, and all towers read the same.</summary>
    Token,

    /// <summary>Each token alone, after it has been mixed with a task token: the released model.</summary>
    TaskSentence,

    /// <summary>The task token: all tokens of a task go the same way, whatever the sample.</summary>
    Task,

    /// <summary>All tokens of a sample side by side, times a vector of the task: one decision for the tokens of a sample and task.</summary>
    Sentence,

    /// <summary>The mean of a sample's tokens beside the task token: one decision for the tokens of a sample and task.</summary>
    TaskSentencePooled,
}
