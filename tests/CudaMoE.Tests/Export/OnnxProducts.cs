namespace CudaMoE.Tests.Export;

/// <summary>Matrix products of the interpreter.</summary>
internal static class OnnxProducts
{
    /// <summary>x W or, transposed, x W^T, plus a bias that is the same for all rows.</summary>
    public static OnnxArray Gemm(OnnxArray[] x, bool transposed)
    {
        (int rows, int k) = (x[0].Shape[0], x[0].Shape[1]);
        (int n, int inputs) = transposed ? (x[1].Shape[0], x[1].Shape[1]) : (x[1].Shape[1], x[1].Shape[0]);
        Assert.Equal(k, inputs);
        if (x.Length == 3)
            Assert.Equal([n], x[2].Shape);
        double[] y = new double[rows * n];
        for (int r = 0; r < rows; r++)
        {
            for (int i = 0; i < n; i++)
            {
                double sum = x.Length == 3 ? x[2].Values[i] : 0;
                for (int j = 0; j < k; j++)
                    sum += x[0].Values[(r * k) + j] * x[1].Values[transposed ? (i * k) + j : (j * n) + i];
                y[(r * n) + i] = sum;
            }
        }

        return new(x[0].Type, [rows, n], y);
    }

    /// <summary>Products of the last two axes; a matrix multiplies each of a batch.</summary>
    public static OnnxArray MatMul(OnnxArray a, OnnxArray b)
    {
        int batch = Math.Max(a.Rank == 3 ? a.Shape[0] : 1, b.Rank == 3 ? b.Shape[0] : 1);
        if (a.Rank == 3 && b.Rank == 3)
            Assert.Equal(a.Shape[0], b.Shape[0]);
        (int m, int k, int n) = (a.Shape[^2], a.Shape[^1], b.Shape[^1]);
        Assert.Equal(k, b.Shape[^2]);
        double[] y = new double[batch * m * n];
        for (int g = 0; g < batch; g++)
        {
            int firstA = a.Rank == 3 ? g * m * k : 0;
            int firstB = b.Rank == 3 ? g * k * n : 0;
            for (int r = 0; r < m; r++)
            {
                for (int c = 0; c < n; c++)
                {
                    double sum = 0;
                    for (int j = 0; j < k; j++)
                        sum += a.Values[firstA + (r * k) + j] * b.Values[firstB + (j * n) + c];
                    y[(((g * m) + r) * n) + c] = sum;
                }
            }
        }

        return new(a.Type, [batch, m, n], y);
    }
}
