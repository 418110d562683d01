namespace CudaMoE.Graphs;

/// <summary>Macro edge weights (MacGNN's, WWW 2024): w_k = (a_k + 1)^(1 / tau) / sum_j (a_j + 1)^(1 / tau), a softmax of ln(a + 1) / tau over all macro nodes.</summary>
public static class MacroWeights
{
    /// <summary>The weights of one node.</summary>
    /// <param name="counts">Its counts in units.</param>
    /// <param name="unit">Units of a count of 1.</param>
    /// <param name="tau">The temperature, above 0.</param>
    /// <param name="weights">Receives as many weights; they sum to 1 but for rounding.</param>
    public static void Compute(ReadOnlySpan<long> counts, double unit, double tau, Span<float> weights)
    {
        long most = 0;
        foreach (long count in counts)
            most = Math.Max(most, count);
        double top = Math.Log((most / unit) + 1);
        double sum = 0;
        for (int k = 0; k < counts.Length; k++)
            sum += Math.Exp((Math.Log((counts[k] / unit) + 1) - top) / tau);
        for (int k = 0; k < counts.Length; k++)
            weights[k] = (float)(Math.Exp((Math.Log((counts[k] / unit) + 1) - top) / tau) / sum);
    }
}
