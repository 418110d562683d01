namespace CudaMoE.Description;

/// <summary>How a model is trained.</summary>
public sealed record TrainingDescription
{
    /// <summary>Rows of a mini-batch.</summary>
    [NumberRange(1, 16777216)]
    public int BatchSize { get; init; } = 1024;

    /// <summary>Passes over the training rows, at most.</summary>
    [NumberRange(1)]
    public int Epochs { get; init; } = 10;

    /// <summary>Seed of the weights, the shuffling and the gate noise.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>Optimiser of the dense parameters.</summary>
    public OptimizerDescription Optimizer { get; init; } = new();

    /// <summary>Optimiser of the embedding tables.</summary>
    public OptimizerDescription EmbeddingOptimizer { get; init; } = new() { Type = OptimizerType.RowwiseAdagrad, LearningRate = 0.05f, Epsilon = 1e-8f };

    /// <summary>How both learning rates change over the steps.</summary>
    public ScheduleDescription Schedule { get; init; } = new();

    /// <summary>Largest global norm of the dense gradients; null = no clipping.</summary>
    [NumberRange(0, AboveMinimum = true)]
    public float? ClipNorm { get; init; }

    /// <summary>How task gradients are balanced.</summary>
    public BalancerDescription Balancer { get; init; } = new();

    /// <summary>When to stop early; null = never.</summary>
    public EarlyStoppingDescription? EarlyStopping { get; init; }

    /// <summary>Steps between checkpoints, beside the one at the end of each epoch; null = none between.</summary>
    [NumberRange(1)]
    public long? CheckpointSteps { get; init; }
}

/// <summary>An optimiser and its constants.</summary>
public sealed record OptimizerDescription
{
    /// <summary>Which one. Dense parameters take sgd, adagrad or adamw; embedding tables sgd, adagrad, rowwise_adagrad or rowwise_adam.</summary>
    public OptimizerType Type { get; init; } = OptimizerType.Adamw;

    /// <summary>Learning rate, above 0.</summary>
    [NumberRange(0, AboveMinimum = true)]
    public float LearningRate { get; init; } = 1e-3f;

    /// <summary>Momentum of SGD, 0 to below 1.</summary>
    [NumberRange(0, 1, BelowMaximum = true)]
    public float Momentum { get; init; }

    /// <summary>Decay of the first moment.</summary>
    [NumberRange(0, 1, BelowMaximum = true)]
    public float Beta1 { get; init; } = 0.9f;

    /// <summary>Decay of the second moment.</summary>
    [NumberRange(0, 1, BelowMaximum = true)]
    public float Beta2 { get; init; } = 0.999f;

    /// <summary>Added to the denominator.</summary>
    [NumberRange(0, AboveMinimum = true)]
    public float Epsilon { get; init; } = 1e-8f;

    /// <summary>Weight decay of weight matrices and tables (biases have none).</summary>
    [NumberRange(0)]
    public float WeightDecay { get; init; }
}

/// <summary>Optimisers.</summary>
public enum OptimizerType
{
    /// <summary>Gradient descent, with momentum if that is above 0.</summary>
    Sgd,

    /// <summary>AdaGrad.</summary>
    Adagrad,

    /// <summary>AdamW (Loshchilov and Hutter 2019).</summary>
    Adamw,

    /// <summary>AdaGrad with one accumulator a table row.</summary>
    RowwiseAdagrad,

    /// <summary>Adam with one second moment a table row.</summary>
    RowwiseAdam,
}

/// <summary>Factor of the learning rates over the steps: a linear warm-up from 0 to 1, then one of the kinds.</summary>
public sealed record ScheduleDescription
{
    /// <summary>What comes after the warm-up.</summary>
    public ScheduleType Type { get; init; } = ScheduleType.Constant;

    /// <summary>Steps of the warm-up.</summary>
    [NumberRange(0)]
    public long WarmupSteps { get; init; }

    /// <summary>The factor at the end of the last epoch (linear, cosine), 0 to 1.</summary>
    [NumberRange(0, 1)]
    public double FinalFactor { get; init; }

    /// <summary>Factor applied at every <see cref="DecaySteps"/> steps (step) or continuously (exponential).</summary>
    [NumberRange(0, 1, AboveMinimum = true)]
    public double DecayFactor { get; init; } = 0.5;

    /// <summary>Steps between two decays.</summary>
    [NumberRange(1)]
    public long DecaySteps { get; init; } = 1000;
}

/// <summary>Learning-rate schedules.</summary>
public enum ScheduleType
{
    /// <summary>Factor 1.</summary>
    Constant,

    /// <summary>Straight down to the final factor.</summary>
    Linear,

    /// <summary>Half a cosine down to the final factor.</summary>
    Cosine,

    /// <summary>Times the decay factor at every decay step.</summary>
    Step,

    /// <summary>Decay factor to the power of steps / decay steps.</summary>
    Exponential,
}

/// <summary>Stops when a validation metric has not improved for a number of epochs, and keeps the best weights.</summary>
public sealed record EarlyStoppingDescription
{
    /// <summary>"auc", "log_loss", ...: the mean over the tasks that have it; or "task/auc" for one task.</summary>
    public string Metric { get; init; } = "auc";

    /// <summary>Weights of the tasks in the mean, in the order of the tasks; null = equal.</summary>
    [NumberRange(0)]
    public IReadOnlyList<double>? TaskWeights { get; init; }

    /// <summary>Epochs without improvement, at least 1.</summary>
    [NumberRange(1)]
    public int Patience { get; init; } = 2;

    /// <summary>What counts as an improvement.</summary>
    [NumberRange(0)]
    public double MinDelta { get; init; }
}
