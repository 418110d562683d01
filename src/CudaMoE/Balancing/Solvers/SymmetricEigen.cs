namespace CudaMoE.Balancing;

/// <summary>Eigenvalues and eigenvectors of a small symmetric matrix by cyclic Jacobi rotations (Golub and Van Loan, section 8.5).</summary>
/// <remarks>Not thread-safe; allocates only when it is made.</remarks>
internal sealed class SymmetricEigen
{
    private const int MaxSweeps = 60;

    private readonly double[] _matrix;
    private readonly double[] _vectors;
    private readonly double[] _values;

    /// <summary>Makes room for matrices of up to <paramref name="capacity"/> rows.</summary>
    public SymmetricEigen(int capacity)
    {
        _matrix = new double[capacity * capacity];
        _vectors = new double[capacity * capacity];
        _values = new double[capacity];
    }

    /// <summary>Rows of the last matrix.</summary>
    public int Count { get; private set; }

    /// <summary>Its eigenvalues, in no order.</summary>
    public ReadOnlySpan<double> Values => _values.AsSpan(0, Count);

    /// <summary>Entry i of eigenvector k, which has length 1.</summary>
    public double Vector(int i, int k) => _vectors[(i * Count) + k];

    /// <summary>Decomposes a finite symmetric matrix, n * n.</summary>
    public void Decompose(ReadOnlySpan<double> matrix, int n)
    {
        Count = n;
        matrix[..(n * n)].CopyTo(_matrix);
        _vectors.AsSpan(0, n * n).Clear();
        for (int i = 0; i < n; i++)
            _vectors[(i * n) + i] = 1;
        for (int sweep = 0; sweep < MaxSweeps; sweep++)
        {
            bool rotated = false;
            for (int p = 0; p < n; p++)
            {
                for (int q = p + 1; q < n; q++)
                    rotated |= Rotate(p, q, n);
            }

            if (!rotated)
                break;
        }

        for (int i = 0; i < n; i++)
            _values[i] = _matrix[(i * n) + i];
    }

    /// <summary>Zeroes entry (p, q); false when it is nothing beside the diagonal.</summary>
    private bool Rotate(int p, int q, int n)
    {
        Span<double> a = _matrix;
        double off = a[(p * n) + q];
        double first = a[(p * n) + p];
        double second = a[(q * n) + q];
        if (Math.Abs(off) <= 1e-17 * Math.Sqrt(Math.Abs(first * second)) || Math.Abs(off) < 1e-290)
            return false;
        double theta = (second - first) / (2 * off);
        double tangent = Math.CopySign(1, theta) / (Math.Abs(theta) + Math.Sqrt((theta * theta) + 1));
        double cosine = 1 / Math.Sqrt((tangent * tangent) + 1);
        double sine = tangent * cosine;
        for (int k = 0; k < n; k++)
        {
            double left = a[(k * n) + p];
            double right = a[(k * n) + q];
            a[(k * n) + p] = (cosine * left) - (sine * right);
            a[(k * n) + q] = (sine * left) + (cosine * right);
        }

        for (int k = 0; k < n; k++)
        {
            double upper = a[(p * n) + k];
            double lower = a[(q * n) + k];
            a[(p * n) + k] = (cosine * upper) - (sine * lower);
            a[(q * n) + k] = (sine * upper) + (cosine * lower);
            double left = _vectors[(k * n) + p];
            double right = _vectors[(k * n) + q];
            _vectors[(k * n) + p] = (cosine * left) - (sine * right);
            _vectors[(k * n) + q] = (sine * left) + (cosine * right);
        }

        a[(p * n) + q] = a[(q * n) + p] = 0;
        return true;
    }

    /// <summary>Sets result = V f(l) V^T right, over the eigenvalues of at least <paramref name="least"/> in size, with f(l) = l^power.</summary>
    public void Apply(ReadOnlySpan<double> right, double power, double least, Span<double> result)
    {
        result.Clear();
        for (int k = 0; k < Count; k++)
        {
            if (!(Math.Abs(_values[k]) > least) || (power != -1 && _values[k] <= 0))
                continue;
            double part = 0;
            for (int i = 0; i < Count; i++)
                part += Vector(i, k) * right[i];
            part *= power == -1 ? 1 / _values[k] : Math.Pow(_values[k], power);
            for (int i = 0; i < Count; i++)
                result[i] += Vector(i, k) * part;
        }
    }
}
