namespace CudaMoE.Balancing;

/// <summary>
/// MetaBalance: the auxiliary tasks' gradients are moved towards the length of the target task's, w_t = r n_0 / n_t + 1 - r with n the moving average of the lengths, and the target
/// keeps its own (He et al., WWW 2022, section 4). The paper does this for each shared parameter tensor; here the representation is the one tensor.
/// </summary>
internal sealed class MetaBalanceBalancer : CompactGramBalancer
{
    private const string AverageKey = "u";

    private readonly double _relax;
    private readonly double _rate;
    private readonly int _target;
    private readonly double[] _average;

    public MetaBalanceBalancer(string name, BalancerSettings settings)
        : base(name, settings.Description, settings.TaskWeights, sums: true)
    {
        _relax = settings.Description.Alpha ?? 0.7;
        _rate = settings.Description.Gamma ?? 0.1;
        _target = settings.Description.Target ?? 0;
        _average = new double[settings.Tasks];
        Array.Fill(_average, double.NaN);
    }

    private protected override bool IsVanishing(int task, double norm) => norm < VanishingShare * _average[task];

    private protected override void Solve(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        for (int i = 0; i < n; i++)
        {
            ref double average = ref _average[problem.Members[i]];
            average = double.IsNaN(average) ? problem.Norms[i] : average + (_rate * (problem.Norms[i] - average));
        }

        for (int i = 0; i < n; i++)
        {
            // Before the target's first gradient there is no length to move to.
            double ratio = _average[_target] / _average[problem.Members[i]];
            weights[i] = double.IsNaN(ratio) ? 1 : (_relax * ratio) + 1 - _relax;
        }
    }

    private protected override void SaveOwn(Dictionary<string, IReadOnlyList<double>> state)
    {
        base.SaveOwn(state);
        state.Add(AverageKey, [.. _average]);
    }

    private protected override void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        base.LoadOwn(state);
        Take(state, AverageKey, _average);
    }
}
