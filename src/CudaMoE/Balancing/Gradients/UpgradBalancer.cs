namespace CudaMoE.Balancing;

/// <summary>
/// UPGrad: the mean of the gradients, each projected onto the cone of directions that oppose no gradient (Quinton and Rey, 2024, <i>Jacobian Descent for
/// Multi-Objective Optimization</i>): for each i the v of least v^T G v with v at least e_i / K; the weights are the sum of the v.
/// </summary>
/// <remarks>In lengths of the gradients, v_j |g_j| = |g_i| / K (e_i + u), the problem has cosines only, whatever the scales.</remarks>
internal sealed class UpgradBalancer(string name, BalancerSettings settings) : CompactGramBalancer(name, settings.Description, settings.TaskWeights, sums: false)
{
    private readonly NonNegativeSolver _solver = new(settings.Tasks);
    private readonly double[] _u = new double[settings.Tasks];

    private protected override void Solve(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        Span<double> u = _u.AsSpan(0, n);
        weights.Clear();
        for (int own = 0; own < n; own++)
        {
            if (!_solver.Solve(problem.Cosines, n, own, u))
            {
                weights.Fill(double.NaN);
                return;
            }

            for (int j = 0; j < n; j++)
                weights[j] += (u[j] + (j == own ? 1 : 0)) * (problem.Norms[own] / problem.Norms[j]) / n;
        }
    }
}
