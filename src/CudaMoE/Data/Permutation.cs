using System.Numerics;

namespace CudaMoE.Data;

/// <summary>
/// A pseudo-random permutation of 0 .. count - 1 that is computed place by place and stores nothing: a Feistel network over the
/// smallest power of two that holds the count, walked until it lands inside (Black and Rogaway 2002, "Ciphers with arbitrary finite
/// domains", section 3). It orders the rows of an epoch and chooses validation rows; its values never change.
/// </summary>
public readonly struct Permutation
{
    // Half-rounds: each mixes one half with a full avalanche of the other. Four would do for a pseudo-random function; small domains
    // have weak halves of a few bits, where more rounds even out the order.
    private const int HalfRounds = 8;
    private readonly ulong _key;
    private readonly int _highBits;
    private readonly int _lowBits;

    /// <summary>Creates it.</summary>
    /// <param name="count">How many, at least 0.</param>
    /// <param name="seed">The seed.</param>
    /// <param name="stream">Separates the permutations of one seed, e.g. by epoch.</param>
    public Permutation(long count, ulong seed, ulong stream)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        Count = count;
        _key = Mix(Mix(seed + 0x9E3779B97F4A7C15) + stream);
        int bits = Math.Max(2, 64 - BitOperations.LeadingZeroCount((ulong)Math.Max(count - 1, 0)));
        _highBits = bits / 2;
        _lowBits = bits - _highBits;
    }

    /// <summary>How many.</summary>
    public long Count { get; }

    /// <summary>The element at <paramref name="place"/>.</summary>
    public long this[long place]
    {
        get
        {
            if ((ulong)place >= (ulong)Count)
                throw new ArgumentOutOfRangeException(nameof(place), place, $"must be 0 to {Count - 1}");
            ulong value = (ulong)place;
            do
                value = Scramble(value);
            while (value >= (ulong)Count);
            return (long)value;
        }
    }

    private ulong Scramble(ulong value)
    {
        ulong low = value & ((1UL << _lowBits) - 1);
        ulong high = value >> _lowBits;
        ulong key = _key;
        for (int round = 0; round < HalfRounds; round += 2)
        {
            high ^= Mix(low ^ key) >> (64 - _highBits);
            key += 0x9E3779B97F4A7C15;
            low ^= Mix(high ^ key) >> (64 - _lowBits);
            key += 0x9E3779B97F4A7C15;
        }

        return (high << _lowBits) | low;
    }

    // The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
    private static ulong Mix(ulong value)
    {
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        return value ^ (value >> 31);
    }
}
