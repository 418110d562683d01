namespace CudaMoE.Balancing;

/// <summary>Softmax over the tasks that take part.</summary>
internal static class Softmax
{
    /// <summary>Replaces the logits of the used entries by their softmax, the others by 0.</summary>
    public static void Apply(Span<double> values, ReadOnlySpan<bool> used)
    {
        double largest = double.NegativeInfinity;
        for (int i = 0; i < values.Length; i++)
            largest = used[i] ? Math.Max(largest, values[i]) : largest;
        double sum = 0;
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = used[i] ? Math.Exp(values[i] - largest) : 0;
            sum += values[i];
        }

        for (int i = 0; i < values.Length; i++)
            values[i] /= sum;
    }
}
