namespace CudaMoE.Balancing;

/// <summary>
/// STCH: minimises a smooth maximum of the losses relative to where a warm-up ended (Lin et al., ICML 2024): in the warm-up the sum of log L_t, whose weights are
/// 1 / L_t; then mu K log sum_t exp(log(L_t / n_t) / mu), whose weights are K p_t / L_t with p = softmax(log(L / n) / mu), n_t the mean loss of the warm-up's last
/// period.
/// </summary>
internal sealed class SmoothTchebycheffBalancer : LossBalancer
{
    private const string NadirKey = "nadir";

    private readonly double _mu;
    private readonly long _warmup;
    private readonly PeriodMeans _means;
    private readonly double[] _nadir;

    public SmoothTchebycheffBalancer(string name, BalancerSettings settings)
        : base(name, settings, positive: true)
    {
        _mu = settings.Description.Temperature ?? 1;
        _warmup = settings.Description.Warmup ?? 4;
        _means = new(settings.Tasks, settings.Period);
        _nadir = new double[settings.Tasks];
        Array.Fill(_nadir, double.NaN);
    }

    private protected override void Solve(long step, int usable, Span<double> lambda)
    {
        if (_means.MoveTo(step) && _means.Period <= _warmup)
            _means.Last.CopyTo(_nadir);
        for (int task = 0; task < Tasks; task++)
        {
            if (Usable[task])
                _means.Add(task, Losses[task]);
        }

        if (_means.Period < _warmup)
        {
            for (int task = 0; task < Tasks; task++)
                lambda[task] = Usable[task] ? 1 / (usable * Losses[task]) : 0;
            return;
        }

        for (int task = 0; task < Tasks; task++)
        {
            // A task first seen after the warm-up starts where it is.
            if (Usable[task] && double.IsNaN(_nadir[task]))
                _nadir[task] = Losses[task];
            lambda[task] = Usable[task] ? Math.Log(Losses[task] / _nadir[task]) / _mu : 0;
        }

        Softmax.Apply(lambda, Usable);
        for (int task = 0; task < Tasks; task++)
            lambda[task] /= Usable[task] ? Losses[task] : 1;
    }

    private protected override void SaveOwn(Dictionary<string, IReadOnlyList<double>> state)
    {
        _means.Save(state);
        state.Add(NadirKey, [.. _nadir]);
    }

    private protected override void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        _means.Load(Take(state, PeriodMeans.Key, _means.StateLength));
        Take(state, NadirKey, _nadir);
    }
}
