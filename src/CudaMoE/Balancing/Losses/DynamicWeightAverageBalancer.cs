namespace CudaMoE.Balancing;

/// <summary>
/// DWA: a task whose loss falls slowly gets more weight, w = K softmax(r / temperature) with r_t the ratio of the mean losses of the last two periods; 1 in the
/// first two periods (Liu, Johns and Davison, CVPR 2019, section 3.3). The losses are the unweighted ones.
/// </summary>
internal sealed class DynamicWeightAverageBalancer : LossBalancer
{
    private readonly double _temperature;
    private readonly PeriodMeans _means;

    public DynamicWeightAverageBalancer(string name, BalancerSettings settings)
        : base(name, settings, positive: false)
    {
        _temperature = settings.Description.Temperature ?? 2;
        _means = new(settings.Tasks, settings.Period);
    }

    private protected override void Solve(long step, int usable, Span<double> lambda)
    {
        _means.MoveTo(step);
        for (int task = 0; task < Tasks; task++)
        {
            double ratio = _means.Last[task] / _means.Previous[task];
            lambda[task] = _means.Period < 2 || !double.IsFinite(ratio) ? 1 / _temperature : ratio / _temperature;
            if (Usable[task])
                _means.Add(task, Losses[task]);
        }

        Softmax.Apply(lambda, Usable);
    }

    private protected override void SaveOwn(Dictionary<string, IReadOnlyList<double>> state) => _means.Save(state);

    private protected override void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state) => _means.Load(Take(state, PeriodMeans.Key, _means.StateLength));
}
