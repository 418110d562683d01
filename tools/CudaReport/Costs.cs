using System.Globalization;

namespace CudaMoE.CudaReport;

/// <summary>
/// What the launches of an operation move, counted by the executor at two batch sizes and carried on to the reference size along the line
/// through both: launches work in tiles of rows, so what they move is a constant (weights, tables) and a part for each row.
/// </summary>
internal static class Costs
{
    /// <summary>Operations may move this much more than their floor before the list asks for a reason.</summary>
    public const double Aim = 1.25;

    /// <summary>Bytes and operations of one run at one batch size; the floors are those that the benchmark states beside its code.</summary>
    internal sealed record Count(
        string Operation, long Batch, long Launches, double MemoryBytes, double CacheBytes, double Operations, double FloorBytes, double FloorOperations);

    /// <summary>The same at the reference size.</summary>
    internal sealed record Cost(string Operation, long Batch, long Launches, double MemoryBytes, double CacheBytes, double Operations, double FloorBytes, double FloorOperations)
    {
        public double Ratio => MemoryBytes / FloorBytes;
    }

    /// <summary>Lines "operation, batch, launches, memory, cache, operations, floor bytes, floor operations", separated by tabs.</summary>
    public static List<Count> Parse(string text) =>
    [
        .. text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split('\t')).Select(p => new Count(
            p[0], Whole(p[1]), Whole(p[2]), Number(p[3]), Number(p[4]), Number(p[5]), Number(p[6]), Number(p[7]))),
    ];

    public static List<Cost> At(long batch, IEnumerable<Count> counts)
    {
        var costs = new List<Cost>();
        foreach (IGrouping<string, Count> group in counts.GroupBy(c => c.Operation))
        {
            Count[] two = [.. group.OrderBy(c => c.Batch)];
            if (two.Length != 2 || two[0].Batch == two[1].Batch)
                throw new InvalidDataException($"{group.Key} was not counted at two batch sizes");
            double Carry(Func<Count, double> value)
            {
                double slope = (value(two[1]) - value(two[0])) / (two[1].Batch - two[0].Batch);
                return value(two[1]) + slope * (batch - two[1].Batch);
            }
            costs.Add(new Cost(group.Key, batch, two[1].Launches, Carry(c => c.MemoryBytes), Carry(c => c.CacheBytes), Carry(c => c.Operations),
                Carry(c => c.FloorBytes), Carry(c => c.FloorOperations)));
        }
        return costs;
    }

    /// <summary>
    /// The costs that were accepted last, one operation a line: launches, thousandths of the floor, why it is more than the aim. Reasons are
    /// written by hand and kept.
    /// </summary>
    public static Dictionary<string, (long Launches, long Permille, string Reason)> ParseExpected(string text) =>
        text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Skip(1).Select(line => line.Split('\t'))
            .ToDictionary(p => p[0], p => (Whole(p[1]), Whole(p[2]), p[3]));

    public static string WriteExpected(IEnumerable<Cost> costs, Dictionary<string, (long Launches, long Permille, string Reason)> before) =>
        "operation\tlaunches\tthousandths of the floor\twhy it is above the aim\n" + string.Concat(costs.Select(cost =>
            $"{cost.Operation}\t{cost.Launches}\t{Permille(cost)}\t{(before.TryGetValue(cost.Operation, out var old) ? old.Reason : "")}\n"));

    public static IEnumerable<string> Compare(IReadOnlyCollection<Cost> costs, Dictionary<string, (long Launches, long Permille, string Reason)> expected)
    {
        foreach (Cost cost in costs)
        {
            if (!expected.TryGetValue(cost.Operation, out var accepted))
                yield return $"{cost.Operation}: its cost is not listed in the expected ones";
            else if (cost.Launches > accepted.Launches || Permille(cost) > accepted.Permille)
                yield return $"{cost.Operation}: {cost.Launches} launches move {cost.Ratio:F3} x the floor; expected {accepted.Launches} and {accepted.Permille / 1000.0:F3}";
            else if (cost.Ratio > Aim && accepted.Reason.Length == 0)
                yield return $"{cost.Operation}: moves {cost.Ratio:F3} x the floor, the aim is {Aim}; kernels/costs.tsv must say why";
        }
        foreach (string operation in expected.Keys.Except(costs.Select(c => c.Operation)))
            yield return $"{operation}: its cost is listed and was not counted";
    }

    private static long Permille(Cost cost) => (long)Math.Ceiling(cost.Ratio * 1000 - 1e-6);

    private static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);

    private static long Whole(string text) => long.Parse(text, CultureInfo.InvariantCulture);
}
