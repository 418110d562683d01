namespace CudaMoE.Balancing;

/// <summary>
/// Minimises |g_own + sum_j u_j g_j|^2 over u at least 0, for gradients of length 1 given by their cosines: the projection of a gradient onto the cone of directions that
/// no gradient opposes. Active set method of Lawson and Hanson (1974, chapter 23).
/// </summary>
/// <remarks>Not thread-safe; allocates only when it is made.</remarks>
internal sealed class NonNegativeSolver(int capacity)
{
    // Keeps the factorisation of dependent gradients going; far below what a solution can show.
    private const double Ridge = 1e-13;
    private const double Tolerance = 1e-12;

    private readonly double[] _factor = new double[capacity * capacity];
    private readonly double[] _solution = new double[capacity];
    private readonly int[] _free = new int[capacity];
    private readonly bool[] _isFree = new bool[capacity];

    /// <summary>Solves it; false when the rounds did not lead to a solution.</summary>
    public bool Solve(ReadOnlySpan<double> cosines, int n, int own, Span<double> u)
    {
        u.Clear();
        _isFree.AsSpan(0, n).Clear();
        for (int round = 0; round < 10 * n; round++)
        {
            int entering = Entering(cosines, n, own, u);
            if (entering < 0)
                return true;
            _isFree[entering] = true;
            if (!MoveInside(cosines, n, own, u))
                return false;
            if (!_isFree[entering])
                return true; // Rounding: it left at once.
        }

        return false;
    }

    /// <summary>The held entry whose growth lowers the norm most; -1 when none does.</summary>
    private int Entering(ReadOnlySpan<double> cosines, int n, int own, ReadOnlySpan<double> u)
    {
        int entering = -1;
        double steepest = -Tolerance;
        for (int i = 0; i < n; i++)
        {
            double slope = cosines[(i * n) + own];
            for (int j = 0; j < n; j++)
                slope += cosines[(i * n) + j] * u[j];
            if (_isFree[i] || slope >= steepest)
                continue;
            steepest = slope;
            entering = i;
        }

        return entering;
    }

    /// <summary>Moves to the minimum over the free entries, holding those that would fall below 0.</summary>
    private bool MoveInside(ReadOnlySpan<double> cosines, int n, int own, Span<double> u)
    {
        while (true)
        {
            int count = 0;
            for (int i = 0; i < n; i++)
            {
                if (_isFree[i])
                    _free[count++] = i;
            }

            for (int i = 0; i < count; i++)
            {
                for (int j = 0; j < count; j++)
                    _factor[(i * count) + j] = cosines[(_free[i] * n) + _free[j]] + (i == j ? Ridge : 0);
                _solution[i] = -cosines[(_free[i] * n) + own];
            }

            if (!Cholesky.Factor(_factor, count))
                return false;
            Cholesky.Solve(_factor, count, _solution.AsSpan(0, count));
            double step = 1;
            int leaving = -1;
            for (int i = 0; i < count; i++)
            {
                double now = u[_free[i]];
                if (_solution[i] > 0)
                    continue;
                double reach = now <= 0 ? 0 : now / (now - _solution[i]);
                if (leaving < 0 || reach < step)
                {
                    step = reach;
                    leaving = _free[i];
                }
            }

            for (int i = 0; i < count; i++)
                u[_free[i]] = Math.Max(0, u[_free[i]] + (step * (_solution[i] - u[_free[i]])));
            if (leaving < 0)
                return true;
            u[leaving] = 0;
            _isFree[leaving] = false;
        }
    }
}
