namespace CudaMoE.Balancing;

/// <summary>Sums over the rows of a batch that a balancer may ask for: vectors that, unlike the gradients themselves, mean the same from batch to batch.</summary>
public enum ColumnKind
{
    /// <summary>None.</summary>
    None,

    /// <summary>Sums of each task's gradient: the gradient of a bias that would be added to the representation. [K, width].</summary>
    Sum,

    /// <summary>Sums over the even rows, then over the odd rows, each doubled: two independent estimates of <see cref="Sum"/>. [2, K, width].</summary>
    Halves,

    /// <summary>Sums of the gradient times the sign of the representation. [K, width].</summary>
    Signed,
}

/// <summary>What a balancer sees of a step.</summary>
public readonly ref struct BalancerInput
{
    /// <summary>Creates it.</summary>
    /// <param name="step">The step, from 0.</param>
    /// <param name="losses">K losses of the batch, not weighted.</param>
    /// <param name="gram">K * K inner products of the task gradients, row-major; empty when the balancer does not need it at this step.</param>
    /// <param name="valid">K marks: false for a task without valid labels in the batch; empty when all are valid.</param>
    /// <param name="columns">Sums of the gradients' columns, as the balancer asks for them; empty when it does not.</param>
    public BalancerInput(
        long step, ReadOnlySpan<double> losses, ReadOnlySpan<double> gram = default, ReadOnlySpan<bool> valid = default, ReadOnlySpan<double> columns = default)
    {
        Step = step;
        Losses = losses;
        Gram = gram;
        Valid = valid;
        Columns = columns;
    }

    /// <summary>The step, from 0.</summary>
    public long Step { get; }

    /// <summary>K losses, not weighted.</summary>
    public ReadOnlySpan<double> Losses { get; }

    /// <summary>K * K inner products, row-major; may be empty.</summary>
    public ReadOnlySpan<double> Gram { get; }

    /// <summary>K marks; empty when all tasks are valid.</summary>
    public ReadOnlySpan<bool> Valid { get; }

    /// <summary>Sums of the gradients' columns, see <see cref="ColumnKind"/>; may be empty.</summary>
    public ReadOnlySpan<double> Columns { get; }

    /// <summary>Whether a task has valid labels.</summary>
    public bool IsValid(int task) => Valid.IsEmpty || Valid[task];

    /// <summary>Checks the lengths.</summary>
    internal void Check(int tasks, bool needsGram, int weights)
    {
        if (Losses.Length != tasks)
            throw new ArgumentException($"losses has {Losses.Length} entries; it must have one a task, {tasks}");
        if (weights != tasks)
            throw new ArgumentException($"weights has {weights} entries; it must have one a task, {tasks}");
        if (!Valid.IsEmpty && Valid.Length != tasks)
            throw new ArgumentException($"valid has {Valid.Length} entries; it must have one a task, {tasks}, or none");
        if (needsGram && Gram.Length != tasks * tasks)
            throw new ArgumentException($"gram has {Gram.Length} entries; it must have {tasks} x {tasks}");
    }
}
