namespace CudaMoE.Balancing;

/// <summary>
/// PCGrad: each gradient loses its part along every other one that it opposes, in random order, and the results are added (Yu et al., NeurIPS 2020,
/// algorithm 1). On coefficients: p = sum_k c_k g_k has p . g_j = sum_k c_k G_kj, and losing its part along g_j adds -(p . g_j) / G_jj to c_j.
/// </summary>
internal sealed class PcgradBalancer(string name, BalancerSettings settings) : CompactGramBalancer(name, settings.Description, settings.TaskWeights, sums: true)
{
    private readonly ulong _seed = settings.Seed;
    private readonly double[] _coefficients = new double[settings.Tasks];
    private readonly int[] _order = new int[settings.Tasks];

    /// <summary>Projects one gradient, given as coefficients, off those that it opposes, in the given order of the others.</summary>
    internal static void Project(ReadOnlySpan<double> gram, int n, int own, ReadOnlySpan<int> order, Span<double> coefficients)
    {
        coefficients.Clear();
        coefficients[own] = 1;
        foreach (int other in order)
        {
            if (other == own)
                continue;
            double product = 0;
            for (int k = 0; k < n; k++)
                product += coefficients[k] * gram[(k * n) + other];
            if (product < 0)
                coefficients[other] -= product / gram[(other * n) + other];
        }
    }

    private protected override void Solve(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        StepRandom random = new(_seed, Step);
        weights.Clear();
        Span<int> order = _order.AsSpan(0, n);
        Span<double> coefficients = _coefficients.AsSpan(0, n);
        for (int own = 0; own < n; own++)
        {
            for (int i = 0; i < n; i++)
                order[i] = i;
            random.Shuffle(order);
            Project(problem.Gram, n, own, order, coefficients);
            for (int i = 0; i < n; i++)
                weights[i] += coefficients[i];
        }
    }
}
