namespace CudaMoE.Balancing;

/// <summary>
/// GradDrop: in each column of the representation either the gradients that raise it or those that lower it are kept (Chen et al., NeurIPS 2020, algorithm 1): with s_t the sum
/// over the batch of gradient * sign(representation), the positive ones with probability P = (1 + sum_t s_t / sum_t |s_t|) / 2, else the negative ones. A task's column that is dropped
/// is multiplied by the leak alpha.
/// </summary>
/// <remarks>The tasks' weights are equal; what it decides are <see cref="ColumnWeights"/>. One random number a column and step, from the run's seed.</remarks>
internal sealed class GradDropBalancer(string name, BalancerSettings settings) : ColumnBalancer(name, settings, sums: true)
{
    private readonly double _leak = settings.Description.Alpha ?? 0;
    private readonly ulong _seed = settings.Seed;
    private float[] _factors = [];
    private bool _given;

    /// <inheritdoc/>
    public override ReadOnlySpan<float> ColumnWeights => _given ? _factors : [];

    /// <inheritdoc/>
    public override void Weights(in BalancerInput input, Span<double> weights)
    {
        _given = false;
        base.Weights(input, weights);
    }

    private protected override ColumnKind Columns => ColumnKind.Signed;

    private protected override void SolveVectors(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        if (_factors.Length == 0)
            _factors = new float[Tasks * Width];
        Array.Fill(_factors, 1);
        StepRandom random = new(_seed, Step);
        for (int column = 0; column < Width; column++)
        {
            double sum = 0;
            double size = 0;
            for (int i = 0; i < n; i++)
            {
                double part = TaskWeights[problem.Members[i]] * ColumnsOf(problem.Members[i])[column];
                sum += part;
                size += Math.Abs(part);
            }

            double positive = size > 0 ? (1 + (sum / size)) / 2 : 0.5;
            bool keepsPositive = positive > random.Uniform();
            for (int i = 0; i < n; i++)
            {
                double part = TaskWeights[problem.Members[i]] * ColumnsOf(problem.Members[i])[column];
                bool kept = keepsPositive ? part > 0 : part < 0;
                _factors[(problem.Members[i] * Width) + column] = kept ? 1 : (float)_leak;
            }
        }

        weights.Fill(1);
        _given = true;
    }
}
