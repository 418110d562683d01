namespace CudaMoE.Description;

/// <summary>
/// Everything that makes a streaming run: the log and its windows, the modalities with their frozen states, the XSMoE model, how it grows, and training.
/// It is what a stream file holds, with snake_case keys.
/// </summary>
public sealed record StreamDescription
{
    /// <summary>A short name, used in reports: letters, digits, <c>-</c>, <c>_</c> and <c>.</c>.</summary>
    public required string Name { get; init; }

    /// <summary>The log of interactions.</summary>
    public required StreamDataDescription Data { get; init; }

    /// <summary>A table of items with texts or groups, for modalities that read columns of it; null = none.</summary>
    public ItemTableDescription? Items { get; init; }

    /// <summary>Where frozen states come from; at least one.</summary>
    public required IReadOnlyList<ModalityDescription> Modalities { get; init; }

    /// <summary>The network.</summary>
    public XsmoeDescription Model { get; init; } = new();

    /// <summary>How the mixtures grow from window to window.</summary>
    public GrowthDescription Growth { get; init; } = new();

    /// <summary>How each window is trained.</summary>
    public StreamTrainingDescription Training { get; init; } = new();
}

/// <summary>A log of interactions and how it becomes windows.</summary>
public sealed record StreamDataDescription
{
    /// <summary>The files, plain or gzip, relative to the stream file.</summary>
    public required IReadOnlyList<string> Log { get; init; }

    /// <summary>How they are written.</summary>
    public FileFormat Format { get; init; } = new();

    /// <summary>The column of the user's name.</summary>
    public string UserColumn { get; init; } = "user_id";

    /// <summary>The column of the item's name.</summary>
    public string ItemColumn { get; init; } = "item_id";

    /// <summary>The column of the time, a number of any unit; events of the same time keep the order of the files.</summary>
    public string TimeColumn { get; init; } = "time";

    /// <summary>Windows of equal count; the last one is tested on only.</summary>
    [NumberRange(2, 1000)]
    public int Windows { get; init; } = 10;

    /// <summary>Events that a user must have in a window, else its events are left out of it; 1 keeps all.</summary>
    [NumberRange(1)]
    public int UserCore { get; init; } = 5;

    /// <summary>Events that an item must have in a window; 1 keeps all.</summary>
    [NumberRange(1)]
    public int ItemCore { get; init; } = 1;

    /// <summary>The share at the end of each window that validates.</summary>
    [NumberRange(0, 1, BelowMaximum = true)]
    public double ValidationFraction { get; init; } = 0.15;
}

/// <summary>A table of items.</summary>
public sealed record ItemTableDescription
{
    /// <summary>The file, plain or gzip, relative to the stream file.</summary>
    public required string File { get; init; }

    /// <summary>How it is written.</summary>
    public FileFormat Format { get; init; } = new();

    /// <summary>The column of the item's name, as in the log. A later row of the same item is left out.</summary>
    public string ItemColumn { get; init; } = "item_id";
}

/// <summary>A modality of the items: a source of frozen states with a side ladder of its own.</summary>
public sealed record ModalityDescription
{
    /// <summary>Its name, which parameters begin with: lower-case letters, digits, <c>-</c> and <c>_</c>.</summary>
    public required string Name { get; init; }

    /// <summary>Where the states come from.</summary>
    public required StateSource Source { get; init; }

    /// <summary>
    /// The file of states (source file), or where those that the encoder computed are kept (source encoder; null = in the run's folder). Relative to the
    /// stream file.
    /// </summary>
    public string? File { get; init; }

    /// <summary>Columns of the item table: whose texts are joined (sources text and encoder), or that name the group (source synthetic).</summary>
    public IReadOnlyList<string> Columns { get; init; } = [];

    /// <summary>The folder of a frozen encoder in HuggingFace's layout (source encoder), relative to the stream file.</summary>
    public string? Encoder { get; init; }

    /// <summary>A file of the items' pixel values, for an encoder of pictures (source encoder), relative to the stream file.</summary>
    public string? Pixels { get; init; }

    /// <summary>How the tokens of a text or picture become one state (source encoder).</summary>
    public TokenPooling Pooling { get; init; }

    /// <summary>Tokens of a text at most (source encoder); null = as the encoder's folder says.</summary>
    [NumberRange(2, 65536)]
    public int? MaxTokens { get; init; }

    /// <summary>Layers of the states above the embedding output (sources text and synthetic).</summary>
    [NumberRange(1, 256)]
    public int Layers { get; init; } = 2;

    /// <summary>Numbers of a state (sources text and synthetic).</summary>
    [NumberRange(1, 8192)]
    public int Width { get; init; } = 128;

    /// <summary>Latent factors (source synthetic).</summary>
    [NumberRange(1, 8192)]
    public int Factors { get; init; } = 32;

    /// <summary>How much of the factors' variance items of a group share (source synthetic).</summary>
    [NumberRange(0, 1)]
    public double GroupShare { get; init; } = 0.5;

    /// <summary>Seed of the random vectors (sources text and synthetic), apart from the seed of training.</summary>
    public ulong Seed { get; init; } = 1;
}

/// <summary>Where frozen states come from.</summary>
public enum StateSource
{
    /// <summary>A file of states that an encoder wrote.</summary>
    File,

    /// <summary>Sums of random vectors of the words and letters of texts.</summary>
    Text,

    /// <summary>Random projections of latent factors of the items: for data without content.</summary>
    Synthetic,

    /// <summary>A frozen encoder of texts or pictures, run once for each item.</summary>
    Encoder,
}

/// <summary>How the states of a sequence's tokens become one.</summary>
public enum TokenPooling
{
    /// <summary>The first token's, which is the class token.</summary>
    Cls,

    /// <summary>The mean of all tokens but padding.</summary>
    Mean,
}

/// <summary>The network of XSMoE.</summary>
public sealed record XsmoeDescription
{
    /// <summary>The encoder layers that the side ladders mix in, ascending; the embedding output, layer 0, is where they begin.</summary>
    [NumberRange(1, 256)]
    public IReadOnlyList<int> Layers { get; init; } = [1, 2];

    /// <summary>Width of an expert's bottleneck.</summary>
    [NumberRange(1, 8192)]
    public int Adapter { get; init; } = 64;

    /// <summary>Width of item and user vectors.</summary>
    [NumberRange(1, 8192)]
    public int Hidden { get; init; } = 128;

    /// <summary>Attention heads of the user encoder.</summary>
    [NumberRange(1, 256)]
    public int Heads { get; init; } = 2;

    /// <summary>Transformer blocks of the user encoder.</summary>
    [NumberRange(1, 64)]
    public int Blocks { get; init; } = 2;

    /// <summary>Whether the products of the attention have biases; in the authors' code they have none.</summary>
    public bool AttentionBias { get; init; } = true;

    /// <summary>Width of the hidden layer of a block.</summary>
    [NumberRange(1, 65536)]
    public int FeedForward { get; init; } = 512;

    /// <summary>Items that the user encoder reads, at most.</summary>
    [NumberRange(1, 1024)]
    public int History { get; init; } = 10;

    /// <summary>Share of the user encoder's numbers that training drops.</summary>
    [NumberRange(0, 0.95)]
    public float Dropout { get; init; } = 0.1f;

    /// <summary>Type of the operands of matrix products; sums and stored weights are f32.</summary>
    public Precision Precision { get; init; } = Precision.F32;
}

/// <summary>How the mixtures change between two windows: first at most one expert of each layer is removed, then one is added.</summary>
public sealed record GrowthDescription
{
    /// <summary>Whether every mixture gets a new expert before each window but the first.</summary>
    public bool Expand { get; init; } = true;

    /// <summary>Whether the least used expert of a mixture is removed when its share is below <see cref="PruneThreshold"/>.</summary>
    public bool Prune { get; init; } = true;

    /// <summary>The share of the experts' utilisation below which the least used one is removed. A mixture's only expert has the share 1.</summary>
    [NumberRange(0, 1)]
    public double PruneThreshold { get; init; } = 0.1;

    /// <summary>Whether experts of earlier windows are frozen when a new one comes; without it all side modules are trained on.</summary>
    public bool Freeze { get; init; } = true;

    /// <summary>How the router's row of a new expert begins.</summary>
    public RouterStart RouterStart { get; init; } = RouterStart.Random;

    /// <summary>Which items' passes count as utilisation.</summary>
    public UtilizationPasses Utilization { get; init; } = UtilizationPasses.Training;
}

/// <summary>How the router's row of a new expert begins.</summary>
public enum RouterStart
{
    /// <summary>Uniform in +-1/sqrt(width), as in a new layer.</summary>
    Random,

    /// <summary>The mean of the other experts' rows, so that the new expert, their mean, is used like them.</summary>
    Mean,
}

/// <summary>Which items' passes count as utilisation.</summary>
public enum UtilizationPasses
{
    /// <summary>Every item as often as the training sequences hold it.</summary>
    Training,

    /// <summary>These, and each item once that validation and test score, as in the published code, whose counters also run in evaluation.</summary>
    Everything,
}

/// <summary>How each window is trained. The optimiser is Adam, whose moments begin anew with each window.</summary>
public sealed record StreamTrainingDescription
{
    /// <summary>Sequences of a mini-batch.</summary>
    [NumberRange(2, 65536)]
    public int BatchSize { get; init; } = 256;

    /// <summary>Passes over a window's training sequences, at most.</summary>
    [NumberRange(1)]
    public int Epochs { get; init; } = 100;

    /// <summary>Epochs at the beginning of a window that are not validated.</summary>
    [NumberRange(0)]
    public int QuietEpochs { get; init; } = 5;

    /// <summary>Validated epochs without a better NDCG@10 before a window ends.</summary>
    [NumberRange(1)]
    public int Patience { get; init; } = 5;

    /// <summary>Learning rate of a window's first epoch.</summary>
    [NumberRange(0, AboveMinimum = true)]
    public float LearningRate { get; init; } = 1e-3f;

    /// <summary>Factor of the learning rate from one epoch to the next.</summary>
    [NumberRange(0, 1, AboveMinimum = true)]
    public float LearningRateDecay { get; init; } = 0.95f;

    /// <summary>What the learning rate does not fall below.</summary>
    [NumberRange(0)]
    public float MinimumLearningRate { get; init; } = 1e-4f;

    /// <summary>Decoupled weight decay of weight matrices.</summary>
    [NumberRange(0)]
    public float WeightDecay { get; init; }

    /// <summary>Seed of weights, order and dropout.</summary>
    public ulong Seed { get; init; } = 42;
}
