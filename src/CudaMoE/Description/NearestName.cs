namespace CudaMoE.Description;

/// <summary>Suggests what a misspelt name was meant to be.</summary>
internal static class NearestName
{
    /// <summary>The text <c>; did you mean "x"?</c> for the nearest of the names, or nothing when none is near.</summary>
    public static string Suggestion(string name, IEnumerable<string> candidates) =>
        Find(name, candidates) is { } nearest ? $"; did you mean \"{nearest}\"?" : "";

    /// <summary>
    /// The candidate with the least edit distance, if it takes at most a third of the longer name's characters to change (at least 2), or
    /// one begins with the other.
    /// </summary>
    public static string? Find(string name, IEnumerable<string> candidates)
    {
        // A name of any length may come from a file; beyond this nothing is near, and the distance costs the product of the lengths.
        if (name.Length is 0 or > 100)
            return null;
        string? best = null;
        int least = int.MaxValue;
        foreach (string candidate in candidates)
        {
            bool begins = name.Length >= 3 && candidate.Length >= 3
                && (candidate.StartsWith(name, StringComparison.OrdinalIgnoreCase) || name.StartsWith(candidate, StringComparison.OrdinalIgnoreCase));
            int distance = Distance(name, candidate);
            int allowed = Math.Max(2, Math.Max(name.Length, candidate.Length) / 3);
            if ((begins || distance <= Math.Min(allowed, candidate.Length - 1)) && distance < least)
            {
                best = candidate;
                least = distance;
            }
        }

        return best;
    }

    /// <summary>Edit distance with insertions, deletions, substitutions and swaps of neighbours (optimal string alignment), case ignored.</summary>
    public static int Distance(string first, string second)
    {
        int[,] cost = new int[first.Length + 1, second.Length + 1];
        for (int i = 0; i <= first.Length; i++)
            cost[i, 0] = i;
        for (int j = 0; j <= second.Length; j++)
            cost[0, j] = j;
        for (int i = 1; i <= first.Length; i++)
        {
            for (int j = 1; j <= second.Length; j++)
            {
                int substitute = cost[i - 1, j - 1] + (Same(i, j) ? 0 : 1);
                cost[i, j] = Math.Min(substitute, Math.Min(cost[i - 1, j], cost[i, j - 1]) + 1);
                if (i > 1 && j > 1 && Same(i, j - 1) && Same(i - 1, j))
                    cost[i, j] = Math.Min(cost[i, j], cost[i - 2, j - 2] + 1);
            }
        }

        return cost[first.Length, second.Length];

        bool Same(int i, int j) => char.ToLowerInvariant(first[i - 1]) == char.ToLowerInvariant(second[j - 1]);
    }
}
