namespace CudaMoE.Streaming;

/// <summary>Means over sequences of a full ranking.</summary>
/// <param name="Sequences">Sequences that were ranked.</param>
/// <param name="HitRate10">Share of them whose item is among the first 10.</param>
/// <param name="Ndcg10">Mean of 1 / log2(rank + 1) where the rank is at most 10, else 0.</param>
/// <param name="HitRate20">Share whose item is among the first 20.</param>
/// <param name="Ndcg20">As <paramref name="Ndcg10"/>, for 20.</param>
public sealed record RankingMetrics(int Sequences, double HitRate10, double Ndcg10, double HitRate20, double Ndcg20)
{
    /// <summary>The metrics of ranks; a rank of 0 means that the item was not offered.</summary>
    public static RankingMetrics Of(IReadOnlyList<int> ranks)
    {
        double hit10 = 0, ndcg10 = 0, hit20 = 0, ndcg20 = 0;
        foreach (int rank in ranks)
        {
            if (rank is 0 or > 20)
                continue;
            double gain = 1 / Math.Log2(rank + 1.0);
            (hit20, ndcg20) = (hit20 + 1, ndcg20 + gain);
            if (rank <= 10)
                (hit10, ndcg10) = (hit10 + 1, ndcg10 + gain);
        }

        int count = Math.Max(1, ranks.Count);
        return new(ranks.Count, hit10 / count, ndcg10 / count, hit20 / count, ndcg20 / count);
    }
}
