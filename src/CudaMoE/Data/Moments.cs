namespace CudaMoE.Data;

/// <summary>Count, mean, deviation, minimum and maximum of a stream of numbers (Welford 1962).</summary>
internal struct Moments
{
    private double _mean;
    private double _squares;
    private double _minimum;
    private double _maximum;

    public long Count { get; private set; }

    public readonly double Mean => Count == 0 ? 0 : _mean;

    /// <summary>Of the population.</summary>
    public readonly double Deviation => Count == 0 ? 0 : Math.Sqrt(_squares / Count);

    public readonly double Minimum => Count == 0 ? 0 : _minimum;

    public readonly double Maximum => Count == 0 ? 0 : _maximum;

    public void Add(double value)
    {
        Count++;
        double delta = value - _mean;
        _mean += delta / Count;
        _squares += delta * (value - _mean);
        _minimum = Count == 1 ? value : Math.Min(_minimum, value);
        _maximum = Count == 1 ? value : Math.Max(_maximum, value);
    }
}
