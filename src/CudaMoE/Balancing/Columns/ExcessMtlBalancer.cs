namespace CudaMoE.Balancing;

/// <summary>
/// ExcessMTL: more weight where the loss is far above its optimum, estimated by r_t = g_t . g_t / sqrt(S_t) with S_t the running sum of squared gradients; relative to the first
/// r_t, w_t is multiplied by exp(beta r_t) and the weights are brought to sum K (He et al., ICML 2024, algorithm 1).
/// </summary>
/// <remarks>On a representation S is kept by column, as in the representation mode of LibMTL.</remarks>
internal sealed class ExcessMtlBalancer : ColumnBalancer
{
    private const string LogitsKey = "log_weights";

    private readonly double _step;
    private readonly double[] _logWeights;
    private readonly double[] _first;
    private readonly bool[] _used;
    private readonly double[] _factors;
    private readonly double[] _excess;

    public ExcessMtlBalancer(string name, BalancerSettings settings)
        : base(name, settings, sums: true)
    {
        _step = settings.Description.Beta ?? 0.01;
        _logWeights = new double[settings.Tasks];
        _first = new double[settings.Tasks];
        _used = new bool[settings.Tasks];
        _factors = new double[settings.Tasks];
        _excess = new double[settings.Tasks];
        Array.Fill(_first, double.NaN);
        Array.Fill(_used, true);
    }

    private protected override ColumnKind Columns => ColumnKind.Sum;

    private protected override void SolveVectors(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        double mean = 0;
        Array.Clear(_factors);
        foreach (int task in problem.Members)
            _factors[task] = TaskWeights[task];
        Vectors.AddSquares(_factors, _excess);
        foreach (int task in problem.Members)
        {
            double excess = _excess[task];
            if (double.IsNaN(_first[task]) && excess > 0)
                _first[task] = excess;
            if (_first[task] > 0)
                _logWeights[task] += _step * excess / _first[task];
        }

        foreach (double value in _logWeights)
            mean += value / Tasks;
        for (int task = 0; task < Tasks; task++)
            _logWeights[task] -= mean;
        for (int i = 0; i < n; i++)
            weights[i] = _logWeights[problem.Members[i]];
        Softmax.Apply(weights, _used.AsSpan(0, n));
        for (int i = 0; i < n; i++)
            weights[i] *= n;
    }

    private protected override void SaveMethod(Dictionary<string, IReadOnlyList<double>> state) => state.Add(LogitsKey, [.. _logWeights, .. _first]);

    private protected override void LoadMethod(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        IReadOnlyList<double> values = Take(state, LogitsKey, 2 * Tasks);
        for (int task = 0; task < Tasks; task++)
        {
            _logWeights[task] = values[task];
            _first[task] = values[Tasks + task];
        }
    }
}
