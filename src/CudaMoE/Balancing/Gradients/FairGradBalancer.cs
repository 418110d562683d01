using CudaMoE.Description;

namespace CudaMoE.Balancing;

/// <summary>
/// FairGrad: weights a above 0 with G a = a^(-1/alpha), alpha-fair progress of the tasks (Ban and Ji, ICML 2024). With alpha 1 it is the Nash
/// bargaining solution of Nash-MTL, G a = 1/a (Navon et al., ICML 2022).
/// </summary>
/// <remarks>
/// Solved for cosines (b = a |g|), where it is well scaled. G is first divided by the mean of its diagonal, so that the weights of orthogonal gradients of one length
/// are 1 each; with gram_scale none it is taken as it is. The mean weight b is at most <see cref="LargestMean"/>: opposite gradients would have none.
/// </remarks>
internal sealed class FairGradBalancer(string name, BalancerSettings settings, double alpha) : CompactGramBalancer(name, settings.Description, settings.TaskWeights, sums: true)
{
    private const double LargestMean = 10;

    private readonly FairnessSolver _solver = new(settings.Tasks);
    private readonly double[] _right = new double[settings.Tasks];
    private readonly bool _raw = settings.Description.GramScale == GramScale.None;

    private protected override void Solve(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        double squares = 0;
        for (int i = 0; i < n; i++)
            squares += problem.Norms[i] * problem.Norms[i] / n;
        double size = Math.Sqrt(squares);
        double sum = 0;
        Span<double> right = _right.AsSpan(0, n);
        for (int i = 0; i < n; i++)
            right[i] = Math.Pow(problem.Norms[i] / size, (1 / alpha) - 1);
        if (!double.IsFinite(size) || !_solver.Solve(problem.Cosines, right, alpha, weights))
        {
            weights.Fill(double.NaN);
            return;
        }

        for (int i = 0; i < n; i++)
            sum += weights[i];
        double cut = Math.Min(1, LargestMean * n / sum);
        double raw = _raw ? Math.Pow(squares, -alpha / (1 + alpha)) : 1;
        for (int i = 0; i < n; i++)
            weights[i] *= cut * raw * size / problem.Norms[i];
    }
}
