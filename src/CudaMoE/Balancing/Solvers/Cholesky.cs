namespace CudaMoE.Balancing;

/// <summary>Cholesky factorisation of a small positive definite matrix, and solutions with it.</summary>
internal static class Cholesky
{
    /// <summary>Replaces the lower half of a matrix [n, n] by its factor; false when it is not positive definite in double precision.</summary>
    public static bool Factor(Span<double> matrix, int n)
    {
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j <= i; j++)
            {
                double value = matrix[(i * n) + j];
                for (int k = 0; k < j; k++)
                    value -= matrix[(i * n) + k] * matrix[(j * n) + k];
                if (i == j && !(value > 0))
                    return false;
                matrix[(i * n) + j] = i == j ? Math.Sqrt(value) : value / matrix[(j * n) + j];
            }
        }

        return true;
    }

    /// <summary>Replaces the right side by the solution.</summary>
    public static void Solve(ReadOnlySpan<double> factor, int n, Span<double> right)
    {
        for (int i = 0; i < n; i++)
        {
            double value = right[i];
            for (int k = 0; k < i; k++)
                value -= factor[(i * n) + k] * right[k];
            right[i] = value / factor[(i * n) + i];
        }

        for (int i = n - 1; i >= 0; i--)
        {
            double value = right[i];
            for (int k = i + 1; k < n; k++)
                value -= factor[(k * n) + i] * right[k];
            right[i] = value / factor[(i * n) + i];
        }
    }
}
