namespace CudaMoE.Balancing;

/// <summary>Euclidean projection onto the simplex of weights that are at least 0 and have a given sum.</summary>
public static class SimplexProjection
{
    /// <summary>
    /// Replaces the values by the nearest point with all entries at least 0 and the given sum: max(v - t, 0) with the one t that gives
    /// that sum (Held, Wolfe and Crowder 1974).
    /// </summary>
    /// <param name="values">Finite values.</param>
    /// <param name="scratch">As long as the values; overwritten.</param>
    /// <param name="sum">The sum, at least 0.</param>
    public static void Project(Span<double> values, Span<double> scratch, double sum = 1)
    {
        if (values.IsEmpty)
            return;
        Span<double> descending = scratch[..values.Length];
        values.CopyTo(descending);
        descending.Sort();
        descending.Reverse();
        double prefix = 0;
        double threshold = 0;
        for (int i = 0; i < descending.Length; i++)
        {
            prefix += descending[i];
            double candidate = (prefix - sum) / (i + 1);
            if (i > 0 && descending[i] <= candidate)
                break;
            threshold = candidate;
        }

        for (int i = 0; i < values.Length; i++)
            values[i] = Math.Max(values[i] - threshold, 0);
    }
}
