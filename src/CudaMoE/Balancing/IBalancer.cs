namespace CudaMoE.Balancing;

/// <summary>
/// Turns K task losses and the K x K Gram matrix of the task gradients on the shared representation into K weights; the trunk's
/// gradient is then the sum of weight * gradient. Allocates nothing per step.
/// </summary>
/// <remarks>Not thread-safe. The same inputs in the same order give the same weights, bit for bit.</remarks>
public interface IBalancer
{
    /// <summary>The name in descriptions and logs, e.g. "multi_balance".</summary>
    string Name { get; }

    /// <summary>Number of tasks, K.</summary>
    int Tasks { get; }

    /// <summary>Whether <see cref="Weights"/> looks at the Gram matrix at this step; if not, it may be left empty and need not be computed.</summary>
    bool NeedsGram(long atStep);

    /// <summary>Gives the weights of this step, finite and at least 0. They apply to the gradients as the Gram matrix was made of them.</summary>
    /// <param name="input">Losses, Gram matrix, valid tasks and step.</param>
    /// <param name="weights">Receives K weights; 0 for a task that is not valid.</param>
    /// <exception cref="ArgumentException">A span has another length than it must have.</exception>
    void Weights(in BalancerInput input, Span<double> weights);

    /// <summary>What the last evaluation saw, for logs.</summary>
    BalancerDiagnostics Diagnostics { get; }

    /// <summary>The state for a checkpoint, by name; empty when there is none.</summary>
    IReadOnlyDictionary<string, IReadOnlyList<double>> Save();

    /// <summary>Takes back a saved state, after which all weights are as they would have been without the break.</summary>
    /// <exception cref="CudaMoEException">The state is of another balancer or number of tasks.</exception>
    void Load(IReadOnlyDictionary<string, IReadOnlyList<double>> state);
}

/// <summary>What a balancer sees of a step.</summary>
public readonly ref struct BalancerInput
{
    /// <summary>Creates it.</summary>
    /// <param name="step">The step, from 0.</param>
    /// <param name="losses">K losses of the batch, not weighted.</param>
    /// <param name="gram">K * K inner products of the task gradients, row-major; empty when the balancer does not need it at this step.</param>
    /// <param name="valid">K marks: false for a task without valid labels in the batch; empty when all are valid.</param>
    public BalancerInput(long step, ReadOnlySpan<double> losses, ReadOnlySpan<double> gram = default, ReadOnlySpan<bool> valid = default)
    {
        Step = step;
        Losses = losses;
        Gram = gram;
        Valid = valid;
    }

    /// <summary>The step, from 0.</summary>
    public long Step { get; }

    /// <summary>K losses, not weighted.</summary>
    public ReadOnlySpan<double> Losses { get; }

    /// <summary>K * K inner products, row-major; may be empty.</summary>
    public ReadOnlySpan<double> Gram { get; }

    /// <summary>K marks; empty when all tasks are valid.</summary>
    public ReadOnlySpan<bool> Valid { get; }

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

/// <summary>What the last evaluation of a balancer saw. The arrays are reused from step to step.</summary>
public sealed class BalancerDiagnostics
{
    private readonly double[] _norms;
    private readonly double[] _cosines;
    private readonly double[] _lambda;

    internal BalancerDiagnostics(int tasks)
    {
        _norms = new double[tasks];
        _cosines = new double[tasks * tasks];
        _lambda = new double[tasks];
        _norms.AsSpan().Fill(double.NaN);
        _cosines.AsSpan().Fill(double.NaN);
        _lambda.AsSpan().Fill(1d / tasks);
    }

    /// <summary>K gradient norms, task weights included; NaN for a balancer that does not look at gradients.</summary>
    public ReadOnlySpan<double> Norms => _norms;

    /// <summary>K * K cosines between task gradients, row-major; NaN where a task was left out.</summary>
    public ReadOnlySpan<double> Cosines => _cosines;

    /// <summary>K weights on the simplex, before they are turned to weights of the original gradients.</summary>
    public ReadOnlySpan<double> Lambda => _lambda;

    /// <summary>How often a valid task was left out since its gradient was zero or not finite.</summary>
    public long LeftOut { get; internal set; }

    /// <summary>How often equal weights were given since the Gram matrix was of no use (no task left, or NaN among finite norms).</summary>
    public long Fallbacks { get; internal set; }

    /// <summary>Share of task pairs whose gradients point apart (cosine below 0), of those that have a cosine; null when none has.</summary>
    public double? ConflictRate
    {
        get
        {
            int pairs = 0;
            int conflicts = 0;
            int tasks = _norms.Length;
            for (int i = 0; i < tasks; i++)
            {
                for (int j = 0; j < i; j++)
                {
                    double cosine = _cosines[(i * tasks) + j];
                    pairs += double.IsNaN(cosine) ? 0 : 1;
                    conflicts += cosine < 0 ? 1 : 0;
                }
            }

            return pairs == 0 ? null : (double)conflicts / pairs;
        }
    }

    internal Span<double> MutableNorms => _norms;

    internal Span<double> MutableCosines => _cosines;

    internal Span<double> MutableLambda => _lambda;
}
