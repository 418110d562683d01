namespace CudaMoE.Description;

/// <summary>One output of the model.</summary>
public sealed record TaskDescription
{
    /// <summary>Unique among the tasks.</summary>
    public required string Name { get; init; }

    /// <summary>What is predicted.</summary>
    public required TaskType Type { get; init; }

    /// <summary>The label column; null = a column of the task's name.</summary>
    public string? Column { get; init; }

    /// <summary>Binary: the texts that count as 1, all others as 0; null = the column holds numbers from 0 to 1.</summary>
    public IReadOnlyList<string>? Positive { get; init; }

    /// <summary>Multi-class: the texts of the classes in order; null = the sorted distinct labels of the training rows.</summary>
    public IReadOnlyList<string>? Classes { get; init; }

    /// <summary>Regression: what the label goes through before the loss; metrics are in the label's own unit.</summary>
    public LabelTransform Transform { get; init; } = LabelTransform.None;

    /// <summary>Factor of the task's loss, for the balancers that honour it. At least 0.</summary>
    [NumberRange(0)]
    public double Weight { get; init; } = 1;

    /// <summary>
    /// The task that this one is conditioned on, both binary: the probability is that of the own tower times that of the named task, so that
    /// "purchase" given "click" learns from all rows (ESMM, Ma et al., SIGIR 2018). Null = none.
    /// </summary>
    public string? Given { get; init; }

    /// <summary>A column of sample weights (finite, at least 0) for this task; null = all 1.</summary>
    public string? WeightColumn { get; init; }

    /// <summary>Restricts the rows that the task is trained and measured on; null = all rows with a label.</summary>
    public MaskRule? Mask { get; init; }
}

/// <summary>Kinds of task.</summary>
public enum TaskType
{
    /// <summary>A probability; one logit.</summary>
    Binary,

    /// <summary>A number; squared error.</summary>
    Regression,

    /// <summary>One class of several; a logit each.</summary>
    Multiclass,
}

/// <summary>Transforms of a regression label.</summary>
public enum LabelTransform
{
    /// <summary>None.</summary>
    None,

    /// <summary>(y - mean) / deviation of the training rows.</summary>
    Standardize,

    /// <summary>log(1 + y), for y of at least 0.</summary>
    Log,
}

/// <summary>Keeps the rows whose column holds one of the given texts (e.g. train "purchase" on clicked rows only).</summary>
public sealed record MaskRule
{
    /// <summary>The column.</summary>
    public required string Column { get; init; }

    /// <summary>The texts that keep a row.</summary>
    public required IReadOnlyList<string> In { get; init; }
}
