namespace CudaMoE.Data;

/// <summary>
/// The numbers that quantiles are taken of: all of them up to <see cref="Capacity"/>, from there on a uniform random sample of that size
/// (reservoir sampling, Vitter 1985, algorithm R, with a fixed seed), whose quantiles are off by about 1 / sqrt(Capacity) = 0.05 % of the
/// rows.
/// </summary>
internal sealed class QuantileSample(int capacity = QuantileSample.Capacity)
{
    public const int Capacity = 1 << 22;
    private readonly List<double> _values = [];
    private ulong _state = 0x5851F42D4C957F2D;
    private long _seen;

    public void Add(double value)
    {
        _seen++;
        if (_values.Count < capacity)
        {
            _values.Add(value);
            return;
        }

        long place = (long)Math.BigMul(Next(), (ulong)_seen, out _);
        if (place < capacity)
            _values[(int)place] = value;
    }

    /// <summary>The least values of buckets 2 to <paramref name="buckets"/>: the sorted numbers at j * count / buckets.</summary>
    public double[] Boundaries(int buckets)
    {
        if (_values.Count == 0)
            return [];
        _values.Sort();
        double[] boundaries = new double[buckets - 1];
        for (int j = 1; j < buckets; j++)
            boundaries[j - 1] = _values[(int)((long)j * _values.Count / buckets)];
        return boundaries;
    }

    // SplitMix64 (Steele, Lea and Flood 2014).
    private ulong Next()
    {
        ulong value = _state += 0x9E3779B97F4A7C15;
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        return value ^ (value >> 31);
    }
}
