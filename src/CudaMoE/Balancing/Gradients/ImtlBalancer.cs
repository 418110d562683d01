namespace CudaMoE.Balancing;

/// <summary>
/// IMTL-G: weights of sum 1, of any sign, for which the combined gradient has the same projection on every gradient's direction (Liu et al., ICLR 2021, section 3.1):
/// w = D^-1 C^+ 1 / sum, D the lengths, C the cosines. With the learnt loss scales of IMTL-L (section 3.2) it is the paper's IMTL.
/// </summary>
internal sealed class ImtlBalancer : CompactGramBalancer
{
    // C^+ 1 points uphill for no task, but D^-1 may turn its sum to 0 or below: then its size is taken from the sum of absolute values.
    private const double LeastShare = 0.05;
    private const double LeastEigenvalue = 1e-10;

    private readonly SymmetricEigen _eigen;
    private readonly double[] _ones;
    private readonly UncertaintyBalancer.LearntScales? _scales;

    public ImtlBalancer(string name, BalancerSettings settings, bool scales)
        : base(name, settings.Description, settings.TaskWeights, sums: false)
    {
        _eigen = new(settings.Tasks);
        _ones = new double[settings.Tasks];
        Array.Fill(_ones, 1);
        _scales = scales ? new(settings, imtl: true) : null;
    }

    private protected override void Solve(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        _eigen.Decompose(problem.Cosines, n);
        _eigen.Apply(_ones.AsSpan(0, n), -1, LeastEigenvalue * n, weights);
        double longest = 0;
        for (int i = 0; i < n; i++)
            longest = Math.Max(longest, problem.Norms[i]);
        double sum = 0;
        double size = 0;
        for (int i = 0; i < n; i++)
        {
            int task = problem.Members[i];
            double factor = _scales?.Weight(task) ?? 1;

            // Scaled by the loss scale, the gradient is longer by it, and so its weight smaller; the sum of 1 is of the weights of the scaled ones.
            weights[i] *= longest / (problem.Norms[i] * factor);
            sum += weights[i];
            size += Math.Abs(weights[i]);
        }

        double total = Math.Max(sum, LeastShare * size);
        for (int i = 0; i < n; i++)
        {
            int task = problem.Members[i];
            weights[i] *= (_scales?.Weight(task) ?? 1) / total;
            _scales?.Learn(task, Losses[task]);
        }
    }

    private protected override void SaveOwn(Dictionary<string, IReadOnlyList<double>> state)
    {
        base.SaveOwn(state);
        _scales?.Save(state);
    }

    private protected override void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        base.LoadOwn(state);
        _scales?.Load(Take(state, UncertaintyBalancer.LearntScales.Key, _scales.StateLength));
    }
}
