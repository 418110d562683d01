namespace CudaMoE.Balancing;

/// <summary>
/// DB-MTL: gradients of log L_t, averaged over steps and brought to the length of the longest (Lin et al. 2023, <i>Dual-Balancing for Multi-Task Learning</i>, sections 3.1 and
/// 3.2): b_t moves to g_t / L_t at rate gamma; w_t = max |b| / |b_t| / L_t.
/// </summary>
/// <remarks>The paper steps along the averaged b; here b is of the column sums and gives the lengths, and the weights apply to this step's gradients.</remarks>
internal sealed class DbMtlBalancer(string name, BalancerSettings settings) : ColumnBalancer(name, settings, sums: true)
{
    private const string BufferKey = "b";

    // A buffer this much shorter than the gradient that goes into it has cancelled out.
    private const double Cancelled = 1e-6;

    private readonly double _rate = settings.Description.Gamma ?? 0.1;
    private double[] _buffer = [];

    /// <inheritdoc/>
    public override ColumnKind NeedsColumns => ColumnKind.Sum;

    private protected override void SolveColumns(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        double longest = 0;
        for (int i = 0; i < n; i++)
        {
            ReadOnlySpan<double> vector = Vector(i);
            double loss = Losses[problem.Members[i]];
            Span<double> buffer = _buffer.AsSpan(problem.Members[i] * Width, Width);
            bool fresh = double.IsNaN(buffer[0]);
            for (int k = 0; k < buffer.Length && loss > 0; k++)
                buffer[k] = fresh ? vector[k] / loss : buffer[k] + (_rate * ((vector[k] / loss) - buffer[k]));
            double now = Math.Sqrt(Dot(vector, vector)) / loss;
            weights[i] = Math.Max(Math.Sqrt(Dot(buffer, buffer)), Cancelled * now);
            longest = Math.Max(longest, weights[i]);
        }

        for (int i = 0; i < n; i++)
            weights[i] = longest / weights[i] / Losses[problem.Members[i]];
    }

    private protected override void Resize(int width)
    {
        _buffer = new double[Tasks * width];
        Array.Fill(_buffer, double.NaN);
    }

    private protected override void SaveVectors(Dictionary<string, IReadOnlyList<double>> state) => state.Add(BufferKey, [.. _buffer]);

    private protected override void LoadVectors(IReadOnlyDictionary<string, IReadOnlyList<double>> state) => Take(state, BufferKey, _buffer);
}
