namespace CudaMoE.Balancing;

/// <summary>
/// DB-MTL: gradients of log L_t, averaged over steps and brought to the length of the longest (Lin et al. 2023, <i>Dual-Balancing for Multi-Task Learning</i>, sections 3.1 and
/// 3.2): b_t moves to g_t / L_t at rate gamma; w_t = max |b| / |b_t| / L_t.
/// </summary>
/// <remarks>The paper steps along the averaged b; here b gives the lengths, and the weights apply to this step's gradients.</remarks>
internal sealed class DbMtlBalancer(string name, BalancerSettings settings) : ColumnBalancer(name, settings, sums: true)
{
    private const string StartedKey = "started";

    // A buffer this much shorter than the gradient that goes into it has cancelled out.
    private const double Cancelled = 1e-6;

    private readonly double _rate = settings.Description.Gamma ?? 0.1;
    private readonly double[] _keep = new double[settings.Tasks];
    private readonly double[] _rates = new double[settings.Tasks];
    private readonly double[] _started = new double[settings.Tasks];

    private protected override ColumnKind Columns => ColumnKind.Sum;

    private protected override void SolveVectors(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        Array.Fill(_keep, 1);
        Array.Clear(_rates);
        foreach (int task in problem.Members)
        {
            if (!(Losses[task] > 0))
                continue;
            _keep[task] = _started[task] > 0 ? 1 - _rate : 0;
            _rates[task] = (_started[task] > 0 ? _rate : 1) * TaskWeights[task] / Losses[task];
            _started[task] = 1;
        }

        Vectors.Track(_keep, _rates);
        double longest = 0;
        for (int i = 0; i < n; i++)
        {
            int task = problem.Members[i];
            double average = Math.Sqrt(Math.Max(0, Vectors.TrackedProduct(task, task)));
            weights[i] = Math.Max(average, Cancelled * LengthOf(task) / Losses[task]);
            longest = Math.Max(longest, weights[i]);
        }

        for (int i = 0; i < n; i++)
            weights[i] = longest / weights[i] / Losses[problem.Members[i]];
    }

    private protected override void SaveMethod(Dictionary<string, IReadOnlyList<double>> state) => state.Add(StartedKey, [.. _started]);

    private protected override void LoadMethod(IReadOnlyDictionary<string, IReadOnlyList<double>> state) => Take(state, StartedKey, _started);
}
