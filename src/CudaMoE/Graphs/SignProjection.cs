using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace CudaMoE.Graphs;

/// <summary>
/// A fixed random projection of the rows of the merged matrix to <see cref="Width"/> numbers: column i of the matrix adds its score to each number with a
/// sign of its own, a bit of the hash of the column's id. Distances between rows are kept up to the usual error of random projections (Achlioptas 2003),
/// and k-means on the rows of S is kernel k-means on S S^T, which is never formed. The sums are integers.
/// </summary>
internal static class SignProjection
{
    /// <summary>Numbers of a projected row: one a bit.</summary>
    public const int Width = 64;

    private const int Lanes = 8;
    private static readonly Vector512<long>[] Masks = [.. Enumerable.Range(0, 256).Select(Mask)];

    /// <summary>The signs of a column: bit j set = number j is subtracted from.</summary>
    /// <param name="hash">XXH64 of the column's id.</param>
    /// <param name="seed">The graph's seed.</param>
    public static ulong Signs(ulong hash, ulong seed)
    {
        ulong z = hash + ((seed + 1) * 0x9E3779B97F4A7C15);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    /// <summary>Adds a score with the signs of its column.</summary>
    public static void Add(Span<long> sums, ulong signs, long units)
    {
        Span<Vector512<long>> parts = MemoryMarshal.Cast<long, Vector512<long>>(sums);
        Vector512<long> value = Vector512.Create(units);
        for (int part = 0; part < Width / Lanes; part++)
        {
            Vector512<long> mask = Masks[(byte)(signs >> (part * Lanes))];
            parts[part] += (value ^ mask) - mask;
        }
    }

    /// <summary>The sums scaled to length 1; zeros stay.</summary>
    /// <returns>Whether they are not all zeros.</returns>
    public static bool Normalize(ReadOnlySpan<long> sums, Span<float> point)
    {
        double squares = 0;
        foreach (long sum in sums)
            squares += (double)sum * sum;
        if (squares == 0)
        {
            point.Clear();
            return false;
        }

        double scale = 1 / Math.Sqrt(squares);
        for (int j = 0; j < sums.Length; j++)
            point[j] = (float)(sums[j] * scale);
        return true;
    }

    /// <summary>The centre nearest to a point, from 1; 0 for a point of zeros.</summary>
    /// <param name="point">The point.</param>
    /// <param name="centres">Centre after centre.</param>
    /// <param name="halfSquares">Half the squared length of each.</param>
    /// <param name="similarity">Inner product with the centre less half its squared length.</param>
    public static int Nearest(ReadOnlySpan<float> point, ReadOnlySpan<float> centres, ReadOnlySpan<float> halfSquares, out float similarity)
    {
        int best = 0;
        similarity = float.NegativeInfinity;
        for (int k = 0; k < halfSquares.Length; k++)
        {
            float value = TensorPrimitives.Dot(point, centres.Slice(k * Width, Width)) - halfSquares[k];
            if (value > similarity)
            {
                similarity = value;
                best = k + 1;
            }
        }

        return best;
    }

    /// <summary>Half the squared length of each centre.</summary>
    public static float[] HalfSquares(ReadOnlySpan<float> centres)
    {
        float[] halves = new float[centres.Length / Width];
        for (int k = 0; k < halves.Length; k++)
            halves[k] = TensorPrimitives.SumOfSquares(centres.Slice(k * Width, Width)) / 2;
        return halves;
    }

    private static Vector512<long> Mask(int bits)
    {
        long[] lanes = new long[Lanes];
        for (int lane = 0; lane < Lanes; lane++)
            lanes[lane] = -((bits >> lane) & 1);
        return Vector512.Create(lanes);
    }
}
