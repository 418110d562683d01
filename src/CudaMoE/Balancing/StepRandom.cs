namespace CudaMoE.Balancing;

/// <summary>Random numbers of one step, drawn from seed and step alone: nothing has to be saved for a run to go on with the same ones.</summary>
/// <remarks>SplitMix64 (Steele, Lea and Flood 2014).</remarks>
internal struct StepRandom
{
    private const ulong Golden = 0x9E3779B97F4A7C15;

    private ulong _state;

    public StepRandom(ulong seed, long step) => _state = Mix(Mix(seed + Golden) ^ (ulong)step);

    /// <summary>Uniform in 0 to below 1.</summary>
    public double Uniform() => (Next() >> 11) * (1.0 / (1UL << 53));

    /// <summary>Standard normal (Box and Muller 1958).</summary>
    public double Normal()
    {
        double radius = Math.Sqrt(-2 * Math.Log(1 - Uniform()));
        return radius * Math.Cos(2 * Math.PI * Uniform());
    }

    /// <summary>Puts the values into a random order (Fisher and Yates).</summary>
    public void Shuffle(Span<int> values)
    {
        for (int last = values.Length - 1; last > 0; last--)
        {
            int other = (int)(Uniform() * (last + 1));
            (values[last], values[other]) = (values[other], values[last]);
        }
    }

    private ulong Next()
    {
        _state += Golden;
        return Mix(_state);
    }

    private static ulong Mix(ulong value)
    {
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        return value ^ (value >> 31);
    }
}
