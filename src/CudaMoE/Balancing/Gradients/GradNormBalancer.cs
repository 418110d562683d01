namespace CudaMoE.Balancing;

/// <summary>
/// GradNorm: learns weights that give all tasks gradients of like length, longer where a task lags (Chen et al., ICML 2018, equations 1 and 2): minimises
/// sum_t | w_t |g_t| - mean(w |g|) r_t^alpha | with the target held constant, r_t = (L_t / L_t(0)) / mean. w = K softmax(s), s by Adam of rate beta.
/// </summary>
/// <remarks>In the first period, over which L(0) is the mean loss, all weights are 1.</remarks>
internal sealed class GradNormBalancer : CompactGramBalancer
{
    private const string LogitsKey = "s";
    private const string InitialKey = "initial_losses";

    private readonly double _alpha;
    private readonly AdamVector _logits;
    private readonly PeriodMeans _means;
    private readonly double[] _initial;
    private readonly double[] _targets;
    private readonly bool[] _used;

    public GradNormBalancer(string name, BalancerSettings settings)
        : base(name, settings.Description, settings.TaskWeights, sums: true)
    {
        _alpha = settings.Description.Alpha ?? 1.5;
        _logits = new(LogitsKey, settings.Tasks, 0, settings.Description.Beta ?? 0.025);
        _means = new(settings.Tasks, settings.Period);
        _initial = new double[settings.Tasks];
        _targets = new double[settings.Tasks];
        _used = new bool[settings.Tasks];
        Array.Fill(_initial, double.NaN);
    }

    /// <summary>The lengths that the last step asked for, in the order of the tasks that took part.</summary>
    internal ReadOnlySpan<double> Targets => _targets;

    private protected override void Solve(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        if (_means.MoveTo(Step) && _means.Period == 1)
            _means.Last.CopyTo(_initial);
        if (_means.Period == 0)
        {
            for (int i = 0; i < n; i++)
                _means.Add(problem.Members[i], Losses[problem.Members[i]]);
            weights.Fill(1);
            return;
        }

        for (int i = 0; i < n; i++)
        {
            weights[i] = _logits.Values[problem.Members[i]];
            _used[i] = true;
        }

        Softmax.Apply(weights, _used.AsSpan(0, n));
        double rates = 0;
        double lengths = 0;
        for (int i = 0; i < n; i++)
        {
            int task = problem.Members[i];
            if (!(_initial[task] > 0))
                _initial[task] = Losses[task];
            weights[i] *= n;
            _targets[i] = Losses[task] / _initial[task];
            rates += _targets[i] / n;
            lengths += weights[i] * problem.Norms[i] / n;
        }

        double inner = 0;
        for (int i = 0; i < n; i++)
        {
            _targets[i] = lengths * Math.Pow(_targets[i] / rates, _alpha);
            inner += Slope(problem, i, weights) * weights[i] / n;
        }

        for (int i = 0; i < n; i++)
            _logits.Step(problem.Members[i], weights[i] * (Slope(problem, i, weights) - inner));
    }

    private protected override void SaveOwn(Dictionary<string, IReadOnlyList<double>> state)
    {
        base.SaveOwn(state);
        _logits.Save(state);
        _means.Save(state);
        state.Add(InitialKey, [.. _initial]);
    }

    private protected override void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        base.LoadOwn(state);
        _logits.Load(Take(state, LogitsKey, _logits.StateLength));
        _means.Load(Take(state, PeriodMeans.Key, _means.StateLength));
        Take(state, InitialKey, _initial);
    }

    /// <summary>Derivative of the objective by w_i.</summary>
    private double Slope(in GramProblem problem, int i, ReadOnlySpan<double> weights)
    {
        double difference = (weights[i] * problem.Norms[i]) - _targets[i];
        return double.IsNaN(difference) ? double.NaN : Math.Sign(difference) * problem.Norms[i];
    }
}
