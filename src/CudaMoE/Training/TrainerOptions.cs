namespace CudaMoE.Training;

/// <summary>What a run needs beside the model description: where it runs and where it writes.</summary>
public sealed record TrainerOptions
{
    /// <summary>The device, see <see cref="Tensors.Device.Open"/>.</summary>
    public string Device { get; init; } = "auto";

    /// <summary>Folder of all runs; the run's own folder is made in it.</summary>
    public string RunsFolder { get; init; } = "runs";

    /// <summary>Checkpoints kept, beside the best one.</summary>
    public int KeepCheckpoints { get; init; } = 3;

    /// <summary>Steps between two step events of the log; null = about fifty an epoch.</summary>
    public long? LogEvery { get; init; }

    /// <summary>Batches read ahead.</summary>
    public int Prefetch { get; init; } = 3;

    /// <summary>
    /// A safetensors file with exactly the model's parameters, from which a new run starts instead of drawn ones, such as <c>cudamoe import</c> writes; null = drawn.
    /// </summary>
    public string? InitialParameters { get; init; }

    /// <summary>Rows of a batch when validating and testing.</summary>
    public int EvaluationBatch { get; init; } = 4096;
}

/// <summary>How a run ended.</summary>
/// <param name="Status">Completed, stopped early, or cancelled.</param>
/// <param name="RunFolder">The run's folder.</param>
/// <param name="CheckpointPath">The checkpoint of the weights that were tested, or the last one when cancelled; null when there is none.</param>
/// <param name="Test">Test metrics of each task; empty when there are no test rows or the run was cancelled.</param>
/// <param name="Steps">Optimiser steps done.</param>
public sealed record TrainingResult(RunStatus Status, string RunFolder, string? CheckpointPath, IReadOnlyList<TaskMetrics> Test, long Steps);

/// <summary>A loss or a parameter became infinite or NaN; the message names the step, the task and the tensor. The last good checkpoint stands.</summary>
public sealed class NonFiniteException(string message) : CudaMoEException(message);
