namespace CudaMoE.Tests.Layers;

/// <summary>Attention, rotary positions and products in double, as plain loops.</summary>
internal static class AttentionReference
{
    /// <summary>y [sequences * queries, heads * width] of q, k, v with heads side by side.</summary>
    public static double[,] Forward(double[,] q, double[,] k, double[,] v, int queries, int keys, int heads, int keyHeads, double scale, bool causal, int[]? counts, double[,]? keyWeights = null, bool sharedKeys = false)
    {
        int width = q.GetLength(1) / heads;
        int sequences = q.GetLength(0) / queries;
        double[,] y = new double[q.GetLength(0), q.GetLength(1)];
        for (int s = 0; s < sequences; s++)
        {
            for (int i = 0; i < queries; i++)
            {
                int seen = Math.Min(counts?[s] ?? keys, causal ? Math.Max(0, i + keys - queries + 1) : keys);
                for (int h = 0; h < heads && seen > 0; h++)
                {
                    int g = h / (heads / keyHeads) * width;
                    int first = sharedKeys ? 0 : s * keys;
                    double[] p = Softmax([.. Enumerable.Range(0, seen).Select(j => scale * Enumerable.Range(0, width).Sum(c => q[(s * queries) + i, (h * width) + c] * k[first + j, g + c]))]);
                    for (int j = 0; j < seen; j++)
                    {
                        for (int c = 0; c < width; c++)
                            y[(s * queries) + i, (h * width) + c] += p[j] * (keyWeights?[s, j] ?? 1) * v[first + j, g + c];
                    }
                }
            }
        }

        return y;
    }

    /// <summary>Turns heads side by side by the row's position, halves against each other.</summary>
    public static double[,] Rotate(double[,] x, int heads, int positions, double frequencyBase = 10000)
    {
        double[,] y = (double[,])x.Clone();
        int width = x.GetLength(1) / heads, half = width / 2;
        for (int r = 0; r < x.GetLength(0); r++)
        {
            for (int h = 0; h < heads; h++)
            {
                for (int i = 0; i < half; i++)
                {
                    double angle = r % positions * Math.Pow(frequencyBase, -2.0 * i / (2 * half));
                    double a = x[r, (h * width) + i], b = x[r, (h * width) + half + i];
                    y[r, (h * width) + i] = (a * Math.Cos(angle)) - (b * Math.Sin(angle));
                    y[r, (h * width) + half + i] = (b * Math.Cos(angle)) + (a * Math.Sin(angle));
                }
            }
        }

        return y;
    }

    /// <summary>x W^T + b with W [out, in] from the first element on.</summary>
    public static double[,] Linear(double[,] x, double[] weight, double[]? bias, int outputs)
    {
        int inputs = x.GetLength(1);
        double[,] y = new double[x.GetLength(0), outputs];
        for (int r = 0; r < x.GetLength(0); r++)
        {
            for (int o = 0; o < outputs; o++)
            {
                double sum = bias?[o] ?? 0;
                for (int i = 0; i < inputs; i++)
                    sum += x[r, i] * weight[(o * inputs) + i];
                y[r, o] = sum;
            }
        }

        return y;
    }

    public static double[,] Columns(double[,] x, int first, int count)
    {
        double[,] y = new double[x.GetLength(0), count];
        for (int r = 0; r < y.GetLength(0); r++)
        {
            for (int c = 0; c < count; c++)
                y[r, c] = x[r, first + c];
        }

        return y;
    }

    private static double[] Softmax(double[] scores)
    {
        double largest = scores.Max();
        double[] p = [.. scores.Select(s => Math.Exp(s - largest))];
        double sum = p.Sum();
        return [.. p.Select(e => e / sum)];
    }
}
