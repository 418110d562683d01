using System.Numerics;

namespace CudaMoE.Graphs;

/// <summary>
/// The merging score of a user and an item (MGOE, equation 6): s = ((rho + 1)^beta - 1) / beta, or ln(rho + 1) where beta is 0, of the rank rho of the
/// combination of tasks in which they met. rho is the number whose bit t is set when the task of value t (0 = the least valuable) is among them, so
/// that more, or more valuable, tasks rank higher; the order is our choice, the paper's excerpts do not say it.
/// </summary>
/// <remarks>
/// Scores are rounded to multiples of 1 / <see cref="Unit"/>, so that all sums of them are sums of integers: exact, the same in any order and for any
/// number of threads, and equal after an update and after a new count.
/// </remarks>
public sealed class PairScores
{
    /// <summary>Most tasks of a graph.</summary>
    public const int MaxTasks = 16;

    /// <summary>Units of a score of 1.</summary>
    public const int Unit = 1 << 10;

    private readonly int[] _units;

    /// <param name="values">For each task its value: a permutation of 0 (the least valuable) to tasks - 1.</param>
    /// <param name="beta">The exponent.</param>
    public PairScores(IReadOnlyList<int> values, double beta)
    {
        Values = values;
        Beta = beta;
        _units = new int[1 << values.Count];
        for (int mask = 1; mask < _units.Length; mask++)
            _units[mask] = (int)Math.Round(Exact(Rank(mask), beta) * Unit);
    }

    /// <summary>For each task its value.</summary>
    public IReadOnlyList<int> Values { get; }

    /// <summary>The exponent.</summary>
    public double Beta { get; }

    /// <summary>The score of a rank, not rounded.</summary>
    public static double Exact(int rank, double beta) => beta == 0 ? Math.Log(rank + 1.0) : (Math.Pow(rank + 1.0, beta) - 1) / beta;

    /// <summary>rho of a combination, whose bit t stands for task t.</summary>
    public int Rank(int mask)
    {
        int rank = 0;
        for (int rest = mask; rest != 0; rest &= rest - 1)
            rank |= 1 << Values[BitOperations.TrailingZeroCount(rest)];
        return rank;
    }

    /// <summary>The score of a combination in units.</summary>
    public int Units(int mask) => _units[mask];

    /// <summary>Values by rarity: the task with the fewest interactions is the most valuable; ties in the order of the tasks.</summary>
    public static int[] ByRarity(IReadOnlyList<long> interactions)
    {
        int[] values = new int[interactions.Count];
        int[] order = [.. Enumerable.Range(0, values.Length).OrderByDescending(task => interactions[task])];
        for (int value = 0; value < order.Length; value++)
            values[order[value]] = value;
        return values;
    }
}
