namespace CudaMoE.Checkpoints;

/// <summary>
/// Where a training run stands, beside the weights and the optimiser's moments: what it takes to go on as if nothing had happened.
/// Doubles are written so that they are read back bit for bit.
/// </summary>
public sealed record TrainingState
{
    /// <summary>Optimiser steps done.</summary>
    public required long Step { get; init; }

    /// <summary>Epochs completed.</summary>
    public required int Epoch { get; init; }

    /// <summary>Batches of the current epoch done: where its shuffled order goes on.</summary>
    public required long Batch { get; init; }

    /// <summary>The run's seed. Generators that count from it need no more than the step; others keep their words in <see cref="Random"/>.</summary>
    public required ulong Seed { get; init; }

    /// <summary>States of random generators by name, as words.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<ulong>> Random { get; init; } = new Dictionary<string, IReadOnlyList<ulong>>();

    /// <summary>State of the balancer by name of the value; empty for one without state.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<double>> Balancer { get; init; } = new Dictionary<string, IReadOnlyList<double>>();

    /// <summary>State of early stopping; null when the run has none.</summary>
    public EarlyStoppingState? EarlyStopping { get; init; }

    /// <summary>Sums that run over the epoch by name (loss per task, ...), so that a resumed epoch reports what an unbroken one does.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<double>> Running { get; init; } = new Dictionary<string, IReadOnlyList<double>>();
}

/// <summary>State of early stopping.</summary>
public sealed record EarlyStoppingState
{
    /// <summary>The best value so far; null before the first one.</summary>
    public double? Best { get; init; }

    /// <summary>The epoch that had it.</summary>
    public int BestEpoch { get; init; }

    /// <summary>Epochs since then.</summary>
    public int Waited { get; init; }
}
