using System.Globalization;
using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Metrics;

namespace CudaMoE.Training;

/// <summary>Watches one validation metric, of one task or the weighted mean over the tasks that have it.</summary>
internal sealed class EarlyStopping
{
    private readonly EarlyStoppingDescription _description;
    private readonly bool _higherIsBetter;
    private double? _best;
    private int _bestEpoch;
    private int _waited;

    public EarlyStopping(EarlyStoppingDescription description)
    {
        _description = description;
        _higherIsBetter = MetricSet.HigherIsBetter(description.Metric);
    }

    /// <summary>The watched number of the last epoch; null when it was undefined.</summary>
    public double? Last { get; private set; }

    public bool ShouldStop => _waited >= _description.Patience;

    public string Reason => string.Create(
        CultureInfo.InvariantCulture,
        $"{_description.Metric} did not improve on {_best:0.######} (epoch {_bestEpoch}) for {_waited} epochs");

    /// <summary>Takes the metrics of an epoch, counted from 1; true when they are the best so far.</summary>
    public bool Observe(IReadOnlyList<Metrics.TaskMetrics> metrics, int epoch)
    {
        Last = MetricSet.Summarize(metrics, _description).Value;
        bool better = Last is { } score && (_best is not { } best || (_higherIsBetter ? score > best + _description.MinDelta : score < best - _description.MinDelta));
        if (!better)
        {
            _waited++;
            return false;
        }

        _best = Last;
        _bestEpoch = epoch;
        _waited = 0;
        return true;
    }

    public EarlyStoppingState Save() => new() { Best = _best, BestEpoch = _bestEpoch, Waited = _waited };

    public void Load(EarlyStoppingState? state)
    {
        _best = state?.Best;
        _bestEpoch = state?.BestEpoch ?? 0;
        _waited = state?.Waited ?? 0;
    }
}
