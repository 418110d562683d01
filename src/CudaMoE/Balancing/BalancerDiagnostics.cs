namespace CudaMoE.Balancing;

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
