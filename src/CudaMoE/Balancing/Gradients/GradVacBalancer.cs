namespace CudaMoE.Balancing;

/// <summary>
/// GradVac: as PCGrad, but raises the cosine c of p_i and g_j to a moving average r_ij of past ones where it is below: adds
/// |p_i| (r sqrt(1 - c^2) - c sqrt(1 - r^2)) / (|g_j| sqrt(1 - r^2)) times g_j, then r moves to c at rate gamma (Wang et al., ICLR 2021, equations 2 and 3).
/// </summary>
internal sealed class GradVacBalancer(string name, BalancerSettings settings) : CompactGramBalancer(name, settings.Description, settings.TaskWeights, sums: true)
{
    private const string TargetsKey = "targets";

    // Towards a target of 1 the coefficient has no bound: parallel gradients need no surgery.
    private const double LargestTarget = 0.999;

    private readonly ulong _seed = settings.Seed;
    private readonly double _rate = settings.Description.Gamma ?? 0.5;
    private readonly double[] _targets = new double[settings.Tasks * settings.Tasks];
    private readonly double[] _coefficients = new double[settings.Tasks];
    private readonly int[] _order = new int[settings.Tasks];

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
            coefficients.Clear();
            coefficients[own] = 1;
            foreach (int other in order)
            {
                if (other != own)
                    Align(problem, own, other, coefficients);
            }

            for (int i = 0; i < n; i++)
                weights[i] += coefficients[i];
        }
    }

    private protected override void SaveOwn(Dictionary<string, IReadOnlyList<double>> state)
    {
        base.SaveOwn(state);
        state.Add(TargetsKey, [.. _targets]);
    }

    private protected override void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        base.LoadOwn(state);
        Take(state, TargetsKey, _targets);
    }

    private void Align(in GramProblem problem, int own, int other, Span<double> coefficients)
    {
        int n = problem.Count;
        double product = 0;
        double square = 0;
        for (int i = 0; i < n; i++)
        {
            product += coefficients[i] * problem.Gram[(i * n) + other];
            for (int j = 0; j < n; j++)
                square += coefficients[i] * coefficients[j] * problem.Gram[(i * n) + j];
        }

        double length = Math.Sqrt(square);
        double cosine = Math.Clamp(product / length / problem.Norms[other], -1, 1);
        if (double.IsNaN(cosine))
            return; // p became 0.
        ref double target = ref _targets[(problem.Members[own] * Tasks) + problem.Members[other]];
        double goal = Math.Clamp(target, -LargestTarget, LargestTarget);
        if (cosine < goal)
        {
            double side = Math.Sqrt(1 - (goal * goal));
            coefficients[other] += length * ((goal * Math.Sqrt(1 - (cosine * cosine))) - (cosine * side)) / (problem.Norms[other] * side);
        }

        target += _rate * (cosine - target);
    }
}
