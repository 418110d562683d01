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

    /// <summary>The experts of a model that mixes some; the networks of a cross_stitch model.</summary>
    public ExpertsDescription? Experts { get; init; }

    /// <summary>The gates of a model that has some.</summary>
    public GateDescription Gate { get; init; } = new();

    /// <summary>The tokens and the routing of a grec model.</summary>
    public GrecDescription? Grec { get; init; }

    /// <summary>
    /// First weight of a task's own network in a cross_stitch model, the others share the rest equally; null = all are drawn uniformly in +-1/sqrt(tasks).
    /// </summary>
    [NumberRange(0, 1)]
    public double? StitchOwnWeight { get; init; } = 0.9;

    /// <summary>The macro graph of a mgoe model.</summary>
    public MacroDescription? Macro { get; init; }

    /// <summary>A chain of tasks of which each hands on what it knows to the next (AITM); null = none.</summary>
    public TransferDescription? Transfer { get; init; }

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

    /// <summary>Levels of experts; each expert above the first level reads a mixture of its own of the level below (multi-level MMoE).</summary>
    MlMmoe,

    /// <summary>Customized gate control: each task mixes its own and the shared experts (Tang et al., RecSys 2020).</summary>
    Cgc,

    /// <summary>Progressive layered extraction: levels of customized gate control (Tang et al., RecSys 2020).</summary>
    Ple,

    /// <summary>Adaptive task-to-task fusion (Li et al., KDD 2023): each task mixes all tasks' experts and adds its own; AdaTT-sp without shared experts.</summary>
    Adatt,

    /// <summary>A network a task, whose levels are mixed by trained matrices (Misra et al., CVPR 2016).</summary>
    CrossStitch,

    /// <summary>Generalist recommender: tokens, a transformer over sequences, and a sparse mixture routed by task and sample (Yang et al., CIKM 2023).</summary>
    Grec,

    /// <summary>
    /// Shared and task-specific embeddings: tables of each task and shared ones, whose experts all tasks mix, while a task's gradient is blocked from other
    /// tasks' experts and tables (Su et al., AAAI 2024).
    /// </summary>
    Stem,

    /// <summary>Macro graph of experts: experts that read aggregates of a user's and an item's macro neighbours (KDD 2026, arXiv 2506.10520).</summary>
    Mgoe,
}

/// <summary>What a mgoe model reads of its macro graph, and how.</summary>
public sealed record MacroDescription
{
    /// <summary>The feature of the user's id: categorical, with a vocabulary or identity encoding.</summary>
    public string? User { get; init; }

    /// <summary>The feature of the item's id, as <see cref="User"/>.</summary>
    public string? Item { get; init; }

    /// <summary>Macro nodes of users, without the cold one, as in the graph.</summary>
    [NumberRange(1, 4096)]
    public int UserNodes { get; init; } = 20;

    /// <summary>Macro nodes of items, without the cold one, as in the graph.</summary>
    [NumberRange(1, 4096)]
    public int ItemNodes { get; init; } = 20;

    /// <summary>Tables of the macro nodes' embeddings.</summary>
    public MacroTables Tables { get; init; } = MacroTables.PerTask;

    /// <summary>How much a macro node counts beside its macro weight.</summary>
    public MacroAttention Attention { get; init; } = MacroAttention.OverNeighbours;

    /// <summary>Whether the tasks' mixtures attend to each other before the towers.</summary>
    public bool Coupling { get; init; } = true;
}

/// <summary>Tables of macro nodes.</summary>
public enum MacroTables
{
    /// <summary>One for each task and a shared one.</summary>
    PerTask,

    /// <summary>A shared one only.</summary>
    Shared,

    /// <summary>None: a model without graph.</summary>
    None,
}

/// <summary>Attention over macro nodes (MacGNN, WWW 2024).</summary>
public enum MacroAttention
{
    /// <summary>Softmax over the macro nodes, as the paper means it.</summary>
    OverNeighbours,

    /// <summary>All macro nodes alike with factor 1: what the released code of MacGNN computes, whose softmax is over one key.</summary>
    Degenerate,
}

/// <summary>Experts of a model: how many, of which widths. All experts of a level have the same shape.</summary>
public sealed record ExpertsDescription
{
    /// <summary>Experts of a level, where none belongs to a task: mmoe, ml_mmoe, grec.</summary>
    [NumberRange(1, 4096)]
    public int? Count { get; init; }

    /// <summary>Own experts of each task and level: cgc, ple, adatt, mgoe, stem; null = 1.</summary>
    [NumberRange(1, 4096)]
    public int? PerTask { get; init; }

    /// <summary>Shared experts of each level: cgc, ple, mgoe, stem, where it is required, and adatt; null = 0.</summary>
    [NumberRange(0, 4096)]
    public int? Shared { get; init; }

    /// <summary>Widths of an expert's layers: mmoe, cgc, mgoe, stem, at least one there; grec, where a last linear layer back to the width of a token follows.</summary>
    [NumberRange(1, 65536)]
    public IReadOnlyList<int> Layers { get; init; } = [];

    /// <summary>For each level the widths of an expert's layers: ml_mmoe, ple, adatt, cross_stitch. At least one level of at least one layer there.</summary>
    [NumberRange(1, 65536)]
    public IReadOnlyList<IReadOnlyList<int>> Levels { get; init; } = [];

    /// <summary>How a unit of an adatt model adds its own experts beside its gate.</summary>
    public NativeResidual Native { get; init; } = NativeResidual.Auto;
}

/// <summary>Weights of a unit's own experts that are added to its gate's weights (AdaTT's NativeExpertLF).</summary>
public enum NativeResidual
{
    /// <summary>As in the reference implementation: unit where every unit of the model has one expert, else learned.</summary>
    Auto,

    /// <summary>A trained weight for each own expert, the same for all samples.</summary>
    Learned,

    /// <summary>The constant 1 for each own expert.</summary>
    Unit,

    /// <summary>None: the gate alone.</summary>
    None,
}

/// <summary>Gates of a mixture.</summary>
public sealed record GateDescription
{
    /// <summary>Experts chosen a sample and gate; null = dense: all experts, softmax.</summary>
    [NumberRange(1, 64)]
    public int? TopK { get; init; }

    /// <summary>One gate a task, or one for all tasks: mmoe, and the last level of ml_mmoe.</summary>
    public GateSharing Sharing { get; init; } = GateSharing.PerTask;

    /// <summary>What the gates above the first level of an adatt or ple model read; null = unit.</summary>
    public GateInput? Input { get; init; }

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

/// <summary>What a gate reads.</summary>
public enum GateInput
{
    /// <summary>What its unit made at the level below.</summary>
    Unit,

    /// <summary>The trunk's input, as at the first level.</summary>
    Trunk,
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
