namespace CudaMoE.Description;

/// <summary>
/// The network: feature row → optional layer normalisation → optional projection → bottom or experts → a tower a task → logits. Every hidden layer is linear, bias, activation;
/// every tower ends with a linear layer to the task's logits.
/// </summary>
public sealed record ArchitectureDescription
{
    /// <summary>Which model.</summary>
    public required ModelType Type { get; init; }

    /// <summary>Width of a first linear layer with activation on the feature row; null = none.</summary>
    [NumberRange(1, 65536)]
    public int? Projection { get; init; }

    /// <summary>Layer normalisation of the feature row, before the projection.</summary>
    public bool LayerNorm { get; init; }

    /// <summary>Hidden widths of the bottom: shared by all tasks (shared_bottom) or one a task (single_task). May be empty.</summary>
    [NumberRange(1, 65536)]
    public IReadOnlyList<int> Bottom { get; init; } = [];

    /// <summary>The experts of an mmoe model.</summary>
    public ExpertsDescription? Experts { get; init; }

    /// <summary>The gates of an mmoe model.</summary>
    public GateDescription Gate { get; init; } = new();

    /// <summary>Hidden widths of each task's tower; may be empty.</summary>
    [NumberRange(1, 65536)]
    public IReadOnlyList<int> Tower { get; init; } = [];

    /// <summary>Activation of hidden layers.</summary>
    public ActivationKind Activation { get; init; } = ActivationKind.Relu;

    /// <summary>Slope of leaky ReLU below zero.</summary>
    [NumberRange(0, 1)]
    public float ActivationSlope { get; init; } = 0.01f;

    /// <summary>Type of the operands of matrix products; sums and stored weights are f32.</summary>
    public Precision Precision { get; init; } = Precision.F32;

    /// <summary>Storage of embedding tables.</summary>
    public Precision EmbeddingPrecision { get; init; } = Precision.F32;
}

/// <summary>Models of this version.</summary>
public enum ModelType
{
    /// <summary>One network a task over shared embeddings.</summary>
    SingleTask,

    /// <summary>One bottom for all tasks (Caruana 1997).</summary>
    SharedBottom,

    /// <summary>Multi-gate mixture of experts (Ma et al., KDD 2018), with dense or sparse gates.</summary>
    Mmoe,
}

/// <summary>Experts of equal shape.</summary>
public sealed record ExpertsDescription
{
    /// <summary>How many.</summary>
    [NumberRange(1, 4096)]
    public required int Count { get; init; }

    /// <summary>Widths of an expert's layers. At least one.</summary>
    [NumberRange(1, 65536)]
    public required IReadOnlyList<int> Layers { get; init; }
}

/// <summary>Gates of a mixture.</summary>
public sealed record GateDescription
{
    /// <summary>Experts chosen a sample and gate; null = dense: all experts, softmax.</summary>
    [NumberRange(1, 64)]
    public int? TopK { get; init; }

    /// <summary>One gate a task, or one for all tasks.</summary>
    public GateSharing Sharing { get; init; } = GateSharing.PerTask;

    /// <summary>How logits become weights; dense gates take softmax_topk (plain softmax) or sigmoid.</summary>
    public ScoreMode Score { get; init; } = ScoreMode.SoftmaxTopk;

    /// <summary>Whether the chosen weights are divided by their sum.</summary>
    public bool Renormalize { get; init; }

    /// <summary>An expert takes at most ceil(factor * pairs / experts) rows; null = no limit. Sparse only.</summary>
    [NumberRange(0, AboveMinimum = true)]
    public double? CapacityFactor { get; init; }

    /// <summary>Who gets a place first when capacity is short.</summary>
    public RoutingOrder Order { get; init; } = RoutingOrder.SampleMajor;

    /// <summary>Coefficient of the load-balance loss (Fedus et al. 2021). Sparse only.</summary>
    [NumberRange(0)]
    public float BalanceLoss { get; init; }

    /// <summary>Coefficient of the router z loss (Zoph et al. 2022).</summary>
    [NumberRange(0)]
    public float ZLoss { get; init; }

    /// <summary>Whether gates have a bias.</summary>
    public bool Bias { get; init; } = true;
}

/// <summary>How many gates.</summary>
public enum GateSharing
{
    /// <summary>One a task.</summary>
    PerTask,

    /// <summary>One for all tasks.</summary>
    Shared,
}

/// <summary>Score modes of a gate, as in the native header.</summary>
public enum ScoreMode
{
    /// <summary>Softmax over all, the k largest keep their value.</summary>
    SoftmaxTopk,

    /// <summary>Softmax over the k largest.</summary>
    TopkSoftmax,

    /// <summary>Sigmoid.</summary>
    Sigmoid,

    /// <summary>Noisy top-k (Shazeer et al. 2017).</summary>
    Noisy,
}

/// <summary>Order in which places of an expert are taken.</summary>
public enum RoutingOrder
{
    /// <summary>Sample by sample.</summary>
    SampleMajor,

    /// <summary>All first choices before any second choice.</summary>
    ChoiceMajor,

    /// <summary>By descending gate weight.</summary>
    Priority,
}

/// <summary>Activations of hidden layers.</summary>
public enum ActivationKind
{
    /// <summary>None.</summary>
    None,

    /// <summary>max(x, 0).</summary>
    Relu,

    /// <summary>x, or slope * x below zero.</summary>
    LeakyRelu,

    /// <summary>x * Phi(x), exact.</summary>
    Gelu,

    /// <summary>x * sigmoid(x).</summary>
    Silu,

    /// <summary>1 / (1 + exp(-x)).</summary>
    Sigmoid,

    /// <summary>tanh(x).</summary>
    Tanh,
}

/// <summary>Number formats.</summary>
public enum Precision
{
    /// <summary>32-bit float.</summary>
    F32,

    /// <summary>bfloat16 operands, f32 sums.</summary>
    Bf16,
}
