using System.Text.Json.Serialization;

namespace CudaMoE.Training;

/// <summary>
/// One line of a run's <c>metrics.jsonl</c>: what happened, when, and after how many optimiser steps. Property names are
/// snake_case in the file; NaN and infinities are the strings "NaN", "Infinity" and "-Infinity".
/// </summary>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "event")]
[JsonDerivedType(typeof(RunStartedEvent), RunStartedEvent.Kind)]
[JsonDerivedType(typeof(RunResumedEvent), RunResumedEvent.Kind)]
[JsonDerivedType(typeof(StepEvent), StepEvent.Kind)]
[JsonDerivedType(typeof(EpochEvent), EpochEvent.Kind)]
[JsonDerivedType(typeof(TestEvent), TestEvent.Kind)]
[JsonDerivedType(typeof(GatesEvent), GatesEvent.Kind)]
[JsonDerivedType(typeof(CalibrationEvent), CalibrationEvent.Kind)]
[JsonDerivedType(typeof(CheckpointEvent), CheckpointEvent.Kind)]
[JsonDerivedType(typeof(RunEndedEvent), RunEndedEvent.Kind)]
public abstract record RunEvent
{
    /// <summary>When it was logged, UTC; <see cref="RunLog.Append"/> sets it where it is null.</summary>
    [JsonPropertyOrder(-2)]
    public DateTimeOffset? Time { get; init; }

    /// <summary>Optimiser steps done since the start of the run.</summary>
    [JsonPropertyOrder(-1)]
    public required long Step { get; init; }
}

/// <summary>The facts of a run; the first line of its log.</summary>
public sealed record RunStartedEvent : RunEvent
{
    /// <summary>Name of the event in the file.</summary>
    public const string Kind = "run_started";

    /// <summary>Name of the model.</summary>
    public required string Name { get; init; }

    /// <summary>Version of CudaMoE.</summary>
    public required string Version { get; init; }

    /// <summary>Backend and processor, e.g. "cpu: AMD EPYC 9655".</summary>
    public required string Device { get; init; }

    /// <summary>Instruction set in use, e.g. "avx512".</summary>
    public required string Level { get; init; }

    /// <summary>Worker threads of the device.</summary>
    public required int Threads { get; init; }

    /// <summary>Kind of model in snake_case, e.g. "mmoe".</summary>
    public required string Architecture { get; init; }

    /// <summary>Tasks in order; every per-task list of the log has this order.</summary>
    public required IReadOnlyList<string> Tasks { get; init; }

    /// <summary>Number of experts; 0 for a model without.</summary>
    public required int Experts { get; init; }

    /// <summary>Trainable numbers in dense layers.</summary>
    public required long DenseParameters { get; init; }

    /// <summary>Trainable numbers in embedding tables.</summary>
    public required long EmbeddingParameters { get; init; }

    /// <summary>Training rows.</summary>
    public required long TrainRows { get; init; }

    /// <summary>Validation rows.</summary>
    public required long ValidationRows { get; init; }

    /// <summary>Test rows.</summary>
    public required long TestRows { get; init; }

    /// <summary>Rows of a mini-batch.</summary>
    public required int BatchSize { get; init; }

    /// <summary>Most epochs.</summary>
    public required int Epochs { get; init; }

    /// <summary>Optimiser steps of an epoch.</summary>
    public required long StepsPerEpoch { get; init; }

    /// <summary>Seed of the run.</summary>
    public required ulong Seed { get; init; }

    /// <summary>Balancer in snake_case, e.g. "multi_balance".</summary>
    public required string Balancer { get; init; }

    /// <summary>Where the shared representation is: "tower_input" or "trunk_input".</summary>
    public required string BalancerPlace { get; init; }
}

/// <summary>A run goes on from a checkpoint; what the log held beyond that checkpoint's step was cut off.</summary>
public sealed record RunResumedEvent : RunEvent
{
    /// <summary>Name of the event in the file.</summary>
    public const string Kind = "run_resumed";

    /// <summary>The checkpoint, relative to the run folder.</summary>
    public required string Checkpoint { get; init; }

    /// <summary>Version of CudaMoE.</summary>
    public required string Version { get; init; }

    /// <summary>Backend and processor.</summary>
    public required string Device { get; init; }

    /// <summary>Instruction set in use.</summary>
    public required string Level { get; init; }

    /// <summary>Worker threads of the device.</summary>
    public required int Threads { get; init; }
}

/// <summary>Training at one step, logged every few steps. Lists per task are in the order of <see cref="RunStartedEvent.Tasks"/>.</summary>
public sealed record StepEvent : RunEvent
{
    /// <summary>Name of the event in the file.</summary>
    public const string Kind = "step";

    /// <summary>Epoch, from 1.</summary>
    public required int Epoch { get; init; }

    /// <summary>Training rows a second since the last step event.</summary>
    public required double SamplesPerSecond { get; init; }

    /// <summary>Learning rate of the dense parameters at this step.</summary>
    public required double LearningRate { get; init; }

    /// <summary>Loss of each task on this step's batch; NaN for a task without labelled rows in it.</summary>
    public required IReadOnlyList<double> Losses { get; init; }

    /// <summary>Weight of each task in the combined gradient.</summary>
    public required IReadOnlyList<double> Weights { get; init; }

    /// <summary>The balancer's own variables before scaling and mixing, e.g. MultiBalance's lambda on the simplex; null when it has none.</summary>
    public IReadOnlyList<double>? Lambda { get; init; }

    /// <summary>Norm of each task's gradient on the shared representation; null when it was not computed.</summary>
    public IReadOnlyList<double>? GradientNorms { get; init; }

    /// <summary>Cosines between the task gradients, [tasks * tasks], row-major; null when they were not computed.</summary>
    public IReadOnlyList<double>? Cosines { get; init; }

    /// <summary>Norm of the gradient of all dense parameters before clipping; null when it was not computed.</summary>
    public double? GradientNorm { get; init; }

    /// <summary>Pairs of sample and expert that found no place (capacity) in this step; null for dense models.</summary>
    public long? DroppedRows { get; init; }

    /// <summary>Share of the routed pairs, or of the gate weight in a dense mixture, that each expert got in this step; sums to 1.</summary>
    public IReadOnlyList<double>? ExpertLoad { get; init; }
}

/// <summary>The end of an epoch. It is logged before the epoch's checkpoint is written, so that a resumed run keeps it.</summary>
public sealed record EpochEvent : RunEvent
{
    /// <summary>Name of the event in the file.</summary>
    public const string Kind = "epoch";

    /// <summary>Epoch, from 1.</summary>
    public required int Epoch { get; init; }

    /// <summary>Mean training loss of each task over the epoch.</summary>
    public required IReadOnlyList<double> TrainLosses { get; init; }

    /// <summary>Metrics on the validation rows; empty when there are none.</summary>
    public required IReadOnlyList<TaskMetrics> Validation { get; init; }

    /// <summary>The number that early stopping watches; null without early stopping.</summary>
    public double? Score { get; init; }

    /// <summary>Whether this epoch's weights are the best so far.</summary>
    public bool Best { get; init; }

    /// <summary>How the tasks' gradients lay to each other in the epoch's steps that looked at them; null when none did.</summary>
    public IReadOnlyList<TaskPair>? Pairs { get; init; }

    /// <summary>Seconds of training, without validation.</summary>
    public required double TrainSeconds { get; init; }

    /// <summary>Seconds of validation.</summary>
    public required double ValidationSeconds { get; init; }

    /// <summary>Training rows a second over the epoch.</summary>
    public required double SamplesPerSecond { get; init; }
}

/// <summary>Metrics of the final weights on the test rows.</summary>
public sealed record TestEvent : RunEvent
{
    /// <summary>Name of the event in the file.</summary>
    public const string Kind = "test";

    /// <summary>Epoch whose weights were tested.</summary>
    public required int Epoch { get; init; }

    /// <summary>Metrics a task.</summary>
    public required IReadOnlyList<TaskMetrics> Metrics { get; init; }

    /// <summary>Seconds it took.</summary>
    public required double Seconds { get; init; }
}

/// <summary>What the gates of one mixture did on the rows of a split.</summary>
public sealed record GatesEvent : RunEvent
{
    /// <summary>Name of the event in the file.</summary>
    public const string Kind = "gates";

    /// <summary>"train", "validation" or "test".</summary>
    public required string Split { get; init; }

    /// <summary>Which mixture, for models with several; "experts" where there is one.</summary>
    public string Layer { get; init; } = "experts";

    /// <summary>Names of the gates: the tasks, or one name for a gate that all tasks share.</summary>
    public required IReadOnlyList<string> Gates { get; init; }

    /// <summary>Number of experts.</summary>
    public required int Experts { get; init; }

    /// <summary>Mean weight that each gate gives to each expert, [gates * experts], row-major.</summary>
    public required IReadOnlyList<double> MeanWeights { get; init; }

    /// <summary>Share of the routed pairs, or of the gate weight in a dense mixture, that each expert got; sums to 1.</summary>
    public required IReadOnlyList<double> ExpertLoad { get; init; }
}

/// <summary>How predictions compare with labels, by bins of the prediction, for each task that has such a comparison.</summary>
public sealed record CalibrationEvent : RunEvent
{
    /// <summary>Name of the event in the file.</summary>
    public const string Kind = "calibration";

    /// <summary>"validation" or "test".</summary>
    public required string Split { get; init; }

    /// <summary>One entry a task.</summary>
    public required IReadOnlyList<TaskCalibration> Tasks { get; init; }
}

/// <summary>A checkpoint is complete on disk.</summary>
public sealed record CheckpointEvent : RunEvent
{
    /// <summary>Name of the event in the file.</summary>
    public const string Kind = "checkpoint";

    /// <summary>Its folder, relative to the run folder.</summary>
    public required string Path { get; init; }

    /// <summary>Whether it holds the best weights so far.</summary>
    public bool Best { get; init; }
}

/// <summary>The last line of a run that ended by itself.</summary>
public sealed record RunEndedEvent : RunEvent
{
    /// <summary>Name of the event in the file.</summary>
    public const string Kind = "run_ended";

    /// <summary>How it ended.</summary>
    public required RunStatus Status { get; init; }

    /// <summary>What went wrong, or why it stopped early; null when there is nothing to say.</summary>
    public string? Message { get; init; }

    /// <summary>What the device has to say, see <see cref="Tensors.Device.QueryNotes"/>; null when that is nothing.</summary>
    public IReadOnlyList<string>? DeviceNotes { get; init; }

    /// <summary>Seconds since the start, or since the resume.</summary>
    public required double Seconds { get; init; }
}

/// <summary>Ways for a run to end.</summary>
public enum RunStatus
{
    /// <summary>All epochs done.</summary>
    [JsonStringEnumMemberName("completed")]
    Completed,

    /// <summary>The watched metric stopped improving.</summary>
    [JsonStringEnumMemberName("early_stopped")]
    EarlyStopped,

    /// <summary>Stopped by the user; a checkpoint was saved.</summary>
    [JsonStringEnumMemberName("cancelled")]
    Cancelled,

    /// <summary>An error.</summary>
    [JsonStringEnumMemberName("failed")]
    Failed,
}
