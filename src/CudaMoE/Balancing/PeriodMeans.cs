namespace CudaMoE.Balancing;

/// <summary>Mean losses of the tasks over periods of a fixed number of steps: of the last full period and the one before.</summary>
internal sealed class PeriodMeans
{
    private readonly long _length;
    private readonly double[] _sums;
    private readonly double[] _counts;
    private readonly double[] _last;
    private readonly double[] _previous;
    private long _period;

    public PeriodMeans(int tasks, long length)
    {
        _length = Math.Max(1, length);
        _sums = new double[tasks];
        _counts = new double[tasks];
        _last = new double[tasks];
        _previous = new double[tasks];
        Array.Fill(_last, double.NaN);
        Array.Fill(_previous, double.NaN);
    }

    /// <summary>Full periods behind the current step.</summary>
    public long Period => _period;

    /// <summary>Means of the last full period; NaN for a task that never took part. A period without the task keeps its earlier mean.</summary>
    public ReadOnlySpan<double> Last => _last;

    /// <summary>Means of the period before.</summary>
    public ReadOnlySpan<double> Previous => _previous;

    /// <summary>Moves on to a step; to be called before <see cref="Add"/>. Tells whether a period has ended.</summary>
    public bool MoveTo(long step)
    {
        long period = step / _length;
        if (period == _period)
            return false;
        for (int task = 0; task < _sums.Length; task++)
        {
            _previous[task] = _last[task];
            if (_counts[task] > 0)
                _last[task] = _sums[task] / _counts[task];
            _sums[task] = _counts[task] = 0;
        }

        _period = period;
        return true;
    }

    /// <summary>Adds a step's loss of a task.</summary>
    public void Add(int task, double loss)
    {
        _sums[task] += loss;
        _counts[task]++;
    }

    public void Save(Dictionary<string, IReadOnlyList<double>> state) =>
        state.Add(Key, [_period, .. _sums, .. _counts, .. _last, .. _previous]);

    /// <summary>The state's entry.</summary>
    public const string Key = "period_means";

    /// <summary>Numbers of the state's entry.</summary>
    public int StateLength => 1 + (4 * _sums.Length);

    public void Load(IReadOnlyList<double> values)
    {
        int tasks = _sums.Length;
        _period = (long)values[0];
        for (int task = 0; task < tasks; task++)
        {
            _sums[task] = values[1 + task];
            _counts[task] = values[1 + tasks + task];
            _last[task] = values[1 + (2 * tasks) + task];
            _previous[task] = values[1 + (3 * tasks) + task];
        }
    }
}
