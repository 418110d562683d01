namespace CudaMoE.Description;

/// <summary>
/// Information handed along a chain of tasks that follow each other, such as click, purchase (AITM, Xi et al., KDD 2021): each task's tower
/// reads an attention over its own representation and what the task before it hands on.
/// </summary>
public sealed record TransferDescription
{
    /// <summary>The tasks of the chain, at least two, the earliest first; empty = all tasks in their order. Other tasks read their own representation alone.</summary>
    public IReadOnlyList<string> Chain { get; init; } = [];

    /// <summary>
    /// Coefficient of the mean over the rows, and sum over the chain's neighbours, of max(later probability - earlier probability, 0) (0.6 in
    /// the authors' run); 0 = none. Above 0 the tasks of the chain must be binary.
    /// </summary>
    [NumberRange(0)]
    public float Penalty { get; init; } = 0.6f;

    /// <summary>Whether a task's loss leaves the tasks before it alone: no gradient flows through what they hand on.</summary>
    public bool StopGradient { get; init; }
}
