namespace CudaMoE.Balancing;

/// <summary>
/// Turns K task losses and the K x K Gram matrix of the task gradients on the shared representation into K weights; the trunk's
/// gradient is then the sum of weight * gradient. Allocates nothing per step.
/// </summary>
/// <remarks>
/// Not thread-safe. The same inputs in the same order give the same weights, bit for bit. Few methods need more than that: sums of the gradients' columns
/// (<see cref="NeedsColumns"/>), the losses after the step (<see cref="NeedsLossesAfterStep"/>), or weights by column (<see cref="ColumnWeights"/>).
/// </remarks>
public interface IBalancer
{
    /// <summary>The name in descriptions and logs, e.g. "multi_balance".</summary>
    string Name { get; }

    /// <summary>Number of tasks, K.</summary>
    int Tasks { get; }

    /// <summary>Whether <see cref="Weights"/> looks at the Gram matrix at this step; if not, it may be left empty and need not be computed.</summary>
    bool NeedsGram(long atStep);

    /// <summary>Which sums of the gradients' columns come with a Gram matrix.</summary>
    ColumnKind NeedsColumns { get; }

    /// <summary>Whether <see cref="ObserveAfterStep"/> is to be called with the same batch's losses after the update: one more forward pass a step.</summary>
    bool NeedsLossesAfterStep { get; }

    /// <summary>
    /// Gives the weights of this step, finite; imtl_g, imtl and aligned_mtl may give negative ones, all others are at least 0. They apply to the gradients
    /// as the Gram matrix was made of them.
    /// </summary>
    /// <param name="input">Losses, Gram matrix, valid tasks and step.</param>
    /// <param name="weights">Receives K weights; 0 for a task that is not valid.</param>
    /// <exception cref="ArgumentException">A span has another length than it must have.</exception>
    void Weights(in BalancerInput input, Span<double> weights);

    /// <summary>
    /// After <see cref="Weights"/>: factors [K, width] of the columns of the gradients, beside the weights; empty when the weights are all there is.
    /// </summary>
    ReadOnlySpan<float> ColumnWeights { get; }

    /// <summary>Takes the losses of the same batch after the update; the step and valid tasks are those of the last <see cref="Weights"/>.</summary>
    void ObserveAfterStep(in BalancerInput after);

    /// <summary>What the last evaluation saw, for logs.</summary>
    BalancerDiagnostics Diagnostics { get; }

    /// <summary>The state for a checkpoint, by name; empty when there is none.</summary>
    IReadOnlyDictionary<string, IReadOnlyList<double>> Save();

    /// <summary>Takes back a saved state, after which all weights are as they would have been without the break.</summary>
    /// <exception cref="CudaMoEException">The state is of another balancer or number of tasks.</exception>
    void Load(IReadOnlyDictionary<string, IReadOnlyList<double>> state);
}
