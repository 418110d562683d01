namespace CudaMoE.Balancing;

/// <summary>
/// CAGrad: the direction within c |g0| of the mean gradient g0 that helps the worst task most (Liu et al., NeurIPS 2021, algorithm 1). w minimises
/// g_w . g0 + c |g0| |g_w| over the simplex; d = (g0 + c |g0| / |g_w| g_w) / (1 + c^2).
/// </summary>
/// <remarks>
/// For a fixed length t of g_w the term c |g0| |g_w| is bounded by c |g0| (|g_w|^2 / t + t) / 2, with equality at t = |g_w|, and what is left is the point of least norm among
/// g_i + (t / (c |g0|)) g0: the minimum over t is where that point's |g_w| is t, found by bisection (the bound is convex in t).
/// </remarks>
internal sealed class CagradBalancer(string name, BalancerSettings settings) : CompactGramBalancer(name, settings.Description, settings.TaskWeights, sums: false)
{
    // Below this share of the longest gradient a combined one is rounding noise.
    private const double Nothing = 1e-9;

    private readonly MinimumNormSolver _solver = new(settings.Tasks);
    private readonly double[] _gram = new double[settings.Tasks * settings.Tasks];
    private readonly double[] _shifted = new double[settings.Tasks * settings.Tasks];
    private readonly double[] _means = new double[settings.Tasks];
    private readonly double _radius = settings.Description.Alpha ?? 0.5;

    private protected override void Solve(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        double largest = 0;
        for (int i = 0; i < n; i++)
            largest = Math.Max(largest, problem.Norms[i]);
        double square = 0;
        for (int i = 0; i < n; i++)
        {
            double mean = 0;
            for (int j = 0; j < n; j++)
            {
                // By cosines: products of lengths may be beyond the range of double.
                _gram[(i * n) + j] = problem.Cosines[(i * n) + j] * (problem.Norms[i] / largest) * (problem.Norms[j] / largest);
                mean += _gram[(i * n) + j] / n;
            }

            _means[i] = mean;
            square += mean / n;
        }

        double length = Math.Sqrt(Math.Max(square, 0));
        double share = 1 / (1 + (_radius * _radius));
        if (_radius == 0 || length <= Nothing)
        {
            weights.Fill(share / n);
            return;
        }

        double found = Minimise(n, length, weights);
        double along = found <= Nothing ? 0 : _radius * length / found;
        for (int i = 0; i < n; i++)
            weights[i] = share * ((1d / n) + (along * weights[i]));
    }

    /// <summary>Sets w; gives |g_w|.</summary>
    private double Minimise(int n, double length, Span<double> w)
    {
        double low = Nothing / 2;
        double high = 2;
        double reach = 0;
        for (int round = 0; round < 70; round++)
        {
            double t = Math.Sqrt(low * high);
            double shift = t / (_radius * length);
            for (int i = 0; i < n; i++)
            {
                for (int j = 0; j < n; j++)
                    _shifted[(i * n) + j] = _gram[(i * n) + j] + (shift * (_means[i] + _means[j])) + (shift * shift * length * length);
            }

            _solver.Solve(_shifted.AsSpan(0, n * n), w);
            double square = 0;
            for (int i = 0; i < n; i++)
            {
                for (int j = 0; j < n; j++)
                    square += w[i] * w[j] * _gram[(i * n) + j];
            }

            reach = Math.Sqrt(Math.Max(square, 0));
            if (reach > t)
                low = t;
            else
                high = t;
        }

        return reach;
    }
}
