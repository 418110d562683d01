using CudaMoE.Description;

namespace CudaMoE.Balancing;

/// <summary>
/// Aligned-MTL: the gradients replaced by the nearest system of orthogonal ones of one length, added (Senushkin et al., CVPR 2023, algorithm 1). With G = V diag(l) V^T
/// the weights are sqrt(s) V diag(l^-1/2) V^T 1, s the least (or median, or mean) eigenvalue that is not 0.
/// </summary>
internal sealed class AlignedMtlBalancer : CompactGramBalancer
{
    // Gram matrices carry the rounding of f32 gradients: a smaller share of the largest eigenvalue is noise.
    private const double LeastShare = 1e-7;

    private readonly SymmetricEigen _eigen;
    private readonly double[] _gram;
    private readonly double[] _ones;
    private readonly double[] _kept;
    private readonly EigenvalueScale _scale;

    public AlignedMtlBalancer(string name, BalancerSettings settings)
        : base(name, settings.Description, settings.TaskWeights, sums: true)
    {
        _eigen = new(settings.Tasks);
        _gram = new double[settings.Tasks * settings.Tasks];
        _ones = new double[settings.Tasks];
        _kept = new double[settings.Tasks];
        Array.Fill(_ones, 1);
        _scale = settings.Description.EigenvalueScale ?? EigenvalueScale.Minimum;
    }

    private protected override void Solve(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        double longest = 0;
        for (int i = 0; i < n; i++)
            longest = Math.Max(longest, problem.Norms[i]);
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
                _gram[(i * n) + j] = problem.Cosines[(i * n) + j] * (problem.Norms[i] / longest) * (problem.Norms[j] / longest);
        }

        _eigen.Decompose(_gram, n);
        double largest = 0;
        foreach (double value in _eigen.Values)
            largest = Math.Max(largest, value);
        int kept = 0;
        double sum = 0;
        foreach (double value in _eigen.Values)
        {
            if (!(value > LeastShare * largest))
                continue;
            _kept[kept++] = value;
            sum += value;
        }

        _kept.AsSpan(0, kept).Sort();
        double size = Math.Sqrt(_scale switch
        {
            EigenvalueScale.Median => (_kept[(kept - 1) / 2] + _kept[kept / 2]) / 2,
            EigenvalueScale.Mean => sum / kept,
            _ => _kept[0],
        });
        _eigen.Apply(_ones.AsSpan(0, n), -0.5, LeastShare * largest, weights);
        for (int i = 0; i < n; i++)
            weights[i] *= size;
    }
}
