namespace CudaMoE.Balancing;

/// <summary>
/// PE-LTR: the weights of sum 1 and of the least combined norm, of any sign, moved to the nearest weights that keep each task's minimum c_t (Lin et al., RecSys 2019,
/// algorithm 2): with w = v + c, solve [G 1; 1^T 0] [v; m] = [-G c; 1 - sum c], then project v onto v at least 0 with that sum.
/// </summary>
internal sealed class ParetoEfficientBalancer(string name, BalancerSettings settings) : CompactGramBalancer(name, settings.Description, settings.TaskWeights, sums: false)
{
    private const double LeastEigenvalue = 1e-12;

    private readonly SymmetricEigen _eigen = new(settings.Tasks + 1);
    private readonly double[] _system = new double[(settings.Tasks + 1) * (settings.Tasks + 1)];
    private readonly double[] _right = new double[settings.Tasks + 1];
    private readonly double[] _solution = new double[settings.Tasks + 1];
    private readonly double[] _minimum = settings.Description.Minimum is { } minimum ? [.. minimum] : new double[settings.Tasks];

    private protected override void Solve(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        int size = n + 1;
        double longest = 0;
        double mass = 1;
        for (int i = 0; i < n; i++)
        {
            longest = Math.Max(longest, problem.Norms[i]);
            mass -= _minimum[problem.Members[i]];
        }

        for (int i = 0; i < n; i++)
        {
            double product = 0;
            for (int j = 0; j < n; j++)
            {
                double entry = problem.Cosines[(i * n) + j] * (problem.Norms[i] / longest) * (problem.Norms[j] / longest);
                _system[(i * size) + j] = entry;
                product += entry * _minimum[problem.Members[j]];
            }

            _system[(i * size) + n] = _system[(n * size) + i] = 1;
            _right[i] = -product;
        }

        _system[(n * size) + n] = 0;
        _right[n] = mass;
        _eigen.Decompose(_system, size);
        _eigen.Apply(_right.AsSpan(0, size), -1, LeastEigenvalue, _solution.AsSpan(0, size));
        SimplexProjection.Project(_solution.AsSpan(0, n), _right, mass);
        for (int i = 0; i < n; i++)
            weights[i] = _solution[i] + _minimum[problem.Members[i]];
    }
}
