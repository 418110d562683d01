using CudaMoE.Data;

namespace CudaMoE.Graphs;

/// <summary>
/// The rows and columns of the merged matrix, projected and scaled to length 1, and the weight of each node in its clustering: min(1, p / theta), with p
/// the sum of its scores and theta the median of p. The paper's equation 8 is known in its beginning only; this form is our choice.
/// </summary>
internal sealed class ProjectedNodes
{
    private const int UsersBetweenReports = 1 << 12;

    private ProjectedNodes(int users, int items)
    {
        UserPoints = Points(users, "users");
        ItemPoints = Points(items, "items");
        UserWeights = new float[users];
        ItemWeights = new float[items];
    }

    public float[] UserPoints { get; }

    public float[] ItemPoints { get; }

    public float[] UserWeights { get; }

    public float[] ItemWeights { get; }

    public static unsafe ProjectedNodes Of(
        Pair* pairs, long[] starts, int[] userOrder, EdgeSpill spill, PairScores scores, ulong seed, Action<double> report, CancellationToken cancellation)
    {
        int users = userOrder.Length;
        int items = spill.Items.Count;
        ProjectedNodes nodes = new(users, items);
        long[] itemSums = new long[nodes.ItemPoints.Length];
        long[] userScores = new long[users];
        long[] itemScores = new long[items];
        ulong[] itemSigns = new ulong[items];
        for (int item = 0; item < items; item++)
            itemSigns[item] = SignProjection.Signs(spill.Items.Hashes[item], seed);
        Span<long> sums = new long[SignProjection.Width];
        for (int user = 0; user < users; user++)
        {
            ulong userSigns = SignProjection.Signs(spill.Users.Hashes[userOrder[user]], seed);
            sums.Clear();
            for (long p = starts[user]; p < starts[user + 1]; p++)
            {
                Pair pair = pairs[p];
                long units = scores.Units(pair.Mask);
                userScores[user] += units;
                itemScores[pair.Item] += units;
                SignProjection.Add(sums, itemSigns[pair.Item], units);
                SignProjection.Add(itemSums.AsSpan(pair.Item * SignProjection.Width, SignProjection.Width), userSigns, units);
            }

            Place(nodes.UserPoints, nodes.UserWeights, user, sums);
            if (user % UsersBetweenReports == 0)
            {
                cancellation.ThrowIfCancellationRequested();
                report((double)starts[user] / starts[^1]);
            }
        }

        for (int item = 0; item < items; item++)
            Place(nodes.ItemPoints, nodes.ItemWeights, item, itemSums.AsSpan(item * SignProjection.Width, SignProjection.Width));
        Weigh(nodes.UserWeights, userScores);
        Weigh(nodes.ItemWeights, itemScores);
        return nodes;
    }

    // The weight of a node whose projection is all zeros stays 0: it belongs to the cold macro node.
    private static void Place(float[] points, float[] weights, int node, ReadOnlySpan<long> sums) =>
        weights[node] = SignProjection.Normalize(sums, points.AsSpan(node * SignProjection.Width, SignProjection.Width)) ? 1 : 0;

    private static void Weigh(float[] weights, long[] scores)
    {
        long[] sorted = [.. scores.Where(score => score > 0).Order()];
        if (sorted.Length == 0)
            return;
        double median = (sorted[(sorted.Length - 1) / 2] + (double)sorted[sorted.Length / 2]) / 2;
        for (int node = 0; node < weights.Length; node++)
            weights[node] *= (float)Math.Min(1, scores[node] / median);
    }

    private static float[] Points(int nodes, string what) => (long)nodes * SignProjection.Width <= Array.MaxLength
        ? new float[nodes * SignProjection.Width]
        : throw new DataException($"the log has {nodes:N0} {what}; a graph holds at most {Array.MaxLength / SignProjection.Width:N0}");
}
