using CudaMoE.Streaming.Xsmoe;
using CudaMoE.Training;

namespace CudaMoE.Streaming;

/// <summary>
/// Ranks the last item of each sequence among all candidates that its user has not met: rank = 1 + the number of greater scores, so among equal scores it
/// is the best of them. An item that the user
/// has met is not offered; where it is the one to find, the sequence counts as a miss.
/// </summary>
internal static class FullRanking
{
    /// <summary>The rank of each sequence; 0 where the item was not offered.</summary>
    /// <param name="model">The model.</param>
    /// <param name="set">The sequences.</param>
    /// <param name="history">What users met before the slice.</param>
    /// <param name="candidates">For each item number up to the largest whether it is ranked; number 0 is not.</param>
    /// <exception cref="NonFiniteException">A score is not a number.</exception>
    public static int[] Ranks(XsmoeModel model, SequenceSet set, UserHistory history, bool[] candidates)
    {
        int[] ranks = new int[set.Count];
        if (set.Count == 0)
            return ranks;
        model.BuildTable(candidates.Length - 1);
        float[] scores = new float[Math.Min(model.RankedSequences, set.Count) * candidates.Length];
        for (int first = 0; first < set.Count; first += model.RankedSequences)
        {
            int[] chosen = [.. Enumerable.Range(first, Math.Min(model.RankedSequences, set.Count - first))];
            model.Score(XsmoeBatch.ForRanking(set, chosen, model.Shape.History), scores);
            for (int i = 0; i < chosen.Length; i++)
            {
                int target = set.Items(chosen[i])[^1];
                ranks[chosen[i]] = Rank(scores.AsSpan(i * candidates.Length, candidates.Length), target, history.Items(set.User(chosen[i])), candidates);
            }
        }

        return ranks;
    }

    /// <summary>The rank of one item; changes the scores.</summary>
    public static int Rank(Span<float> scores, int target, IReadOnlyList<int> met, bool[] candidates)
    {
        foreach (int item in met)
        {
            if (item < scores.Length)
                scores[item] = float.NegativeInfinity;
        }

        float own = scores[target];
        if (float.IsNegativeInfinity(own))
            return 0;
        int rank = 1;
        for (int item = 1; item < scores.Length; item++)
        {
            if (!candidates[item])
                continue;
            float score = scores[item];
            if (float.IsNaN(score))
                throw new NonFiniteException($"the score of item {item} is not a number; the model has diverged, try a lower training.learning_rate");
            if (score > own)
                rank++;
        }

        return rank;
    }

    /// <summary>All items up to the largest of a slice.</summary>
    public static bool[] UpTo(ReadOnlySpan<Interaction> rows)
    {
        int largest = 0;
        foreach ((int _, int item) in rows)
            largest = Math.Max(largest, item);
        bool[] candidates = new bool[largest + 1];
        candidates.AsSpan(1).Fill(true);
        return candidates;
    }

    /// <summary>The items of a slice.</summary>
    public static bool[] Of(ReadOnlySpan<Interaction> rows)
    {
        bool[] candidates = UpTo(rows);
        candidates.AsSpan().Clear();
        foreach ((int _, int item) in rows)
            candidates[item] = true;
        return candidates;
    }
}
