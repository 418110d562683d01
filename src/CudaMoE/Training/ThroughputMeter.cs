using System.Diagnostics;

namespace CudaMoE.Training;

/// <summary>Rows a second: over the last second or so, and over all time since the restart.</summary>
internal sealed class ThroughputMeter
{
    private const double Window = 1.0;
    private long _started;
    private long _windowStarted;
    private long _rows;
    private long _windowRows;

    /// <summary>Over the last full window; over the time so far before there is one.</summary>
    public double Recent { get; private set; }

    public double Seconds => Stopwatch.GetElapsedTime(_started).TotalSeconds;

    public double Mean => _rows / Math.Max(Seconds, 1e-9);

    public void Restart()
    {
        _started = _windowStarted = Stopwatch.GetTimestamp();
        _rows = _windowRows = 0;
        Recent = 0;
    }

    public void Add(long rows)
    {
        _rows += rows;
        _windowRows += rows;
        double elapsed = Stopwatch.GetElapsedTime(_windowStarted).TotalSeconds;
        if (elapsed >= Window)
        {
            Recent = _windowRows / elapsed;
            _windowRows = 0;
            _windowStarted = Stopwatch.GetTimestamp();
        }
        else if (Recent == 0 || _rows == _windowRows)
        {
            Recent = Mean;
        }
    }
}
