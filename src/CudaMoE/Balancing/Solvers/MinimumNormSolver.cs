namespace CudaMoE.Balancing;

/// <summary>
/// Finds the weights on the simplex that minimise w^T G w: the point of least norm in the convex hull of vectors whose Gram matrix is
/// G. Wolfe's active-set method (Mathematical Programming 11, 1976): exact after finitely many steps, at most a few times K in practice.
/// </summary>
/// <remarks>Not thread-safe; allocates only when it is made.</remarks>
public sealed class MinimumNormSolver
{
    // An inner product of the current point p with a vector g counts as less than |p|^2 when it is so by this share of |p|^2 and by more than
    // the rounding of the products, which is of the order of 2^-52 |g| (sum of w_i |g_i|).
    private const double RelativeTolerance = 1e-13;
    private const double RoundingTolerance = 1.0 / (1L << 48);
    private const double LeastPivot = 1e-15;

    private readonly int _capacity;
    private readonly double[] _gram;
    private readonly double[] _factor;
    private readonly double[] _affine;
    private readonly double[] _products;
    private readonly double[] _lengths;
    private readonly double[] _trial;
    private readonly int[] _active;

    /// <summary>Makes room for problems of up to <paramref name="capacity"/> vectors.</summary>
    public MinimumNormSolver(int capacity)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(capacity, 1);
        _capacity = capacity;
        _gram = new double[capacity * capacity];
        _factor = new double[capacity * capacity];
        _affine = new double[capacity];
        _products = new double[capacity];
        _lengths = new double[capacity];
        _trial = new double[capacity];
        _active = new int[capacity];
    }

    /// <summary>Solves for one Gram matrix.</summary>
    /// <param name="gram">n * n finite inner products, row-major, symmetric; positive semidefinite up to rounding.</param>
    /// <param name="weights">Receives n weights, at least 0, with sum 1.</param>
    /// <returns>w^T G w.</returns>
    public double Solve(ReadOnlySpan<double> gram, Span<double> weights)
    {
        int n = weights.Length;
        if (n < 1 || n > _capacity || gram.Length != n * n)
            throw new ArgumentException($"weights has {n} entries and gram {gram.Length}; they must have n and n x n, n from 1 to {_capacity}");
        double largest = 0;
        int first = 0;
        for (int i = 0; i < n; i++)
        {
            largest = Math.Max(largest, gram[(i * n) + i]);
            if (gram[(i * n) + i] < gram[(first * n) + first])
                first = i;
        }

        weights.Clear();
        weights[first] = 1;
        if (largest <= 0)
        {
            // All vectors are zero: every point is a solution; equal weights favour none.
            weights.Fill(1d / n);
            return 0;
        }

        for (int i = 0; i < n * n; i++)
            _gram[i] = gram[i] / largest;
        for (int i = 0; i < n; i++)
            _lengths[i] = Math.Sqrt(Math.Max(_gram[(i * n) + i], 0));
        _active[0] = first;
        int active = 1;
        double best = _gram[(first * n) + first];
        Span<double> trial = _trial.AsSpan(0, n);
        for (int round = 0; round < 20 * n; round++)
        {
            // A vector that reaches further against the current point than that point itself improves it.
            int entering = Entering(weights, n);
            if (entering < 0 || _active.AsSpan(0, active).Contains(entering))
                break;
            weights.CopyTo(trial);
            _active[active++] = entering;
            active = MoveToAffineMinimum(trial, active, n);
            double value = Value(trial, n);
            if (!(value < best))
                break; // Rounding: no further progress can be seen.
            best = value;
            trial.CopyTo(weights);
        }

        return best * largest;
    }

    /// <summary>The vector that lies furthest below the plane through the current point, by more than rounding; -1 when none does.</summary>
    private int Entering(ReadOnlySpan<double> weights, int n)
    {
        double norm = Value(weights, n);
        double reach = 0;
        for (int i = 0; i < n; i++)
            reach += weights[i] * _lengths[i];
        int entering = -1;
        double furthest = 0;
        for (int i = 0; i < n; i++)
        {
            double gap = norm - _products[i];
            if (gap > furthest && gap > (RelativeTolerance * norm) + (RoundingTolerance * reach * (reach + _lengths[i])))
            {
                furthest = gap;
                entering = i;
            }
        }

        return entering;
    }

    /// <summary>w^T G w; sets the products G w.</summary>
    private double Value(ReadOnlySpan<double> weights, int n)
    {
        double norm = 0;
        for (int i = 0; i < n; i++)
        {
            double product = 0;
            for (int j = 0; j < n; j++)
                product += _gram[(i * n) + j] * weights[j];
            _products[i] = product;
            norm += weights[i] * product;
        }

        return norm;
    }

    /// <summary>
    /// Moves to the point of least norm in the affine hull of the active vectors, or, where that lies outside their convex hull, as far as
    /// the hull reaches, drops what became 0, and goes on from there. Returns the number of active vectors.
    /// </summary>
    private int MoveToAffineMinimum(Span<double> weights, int active, int n)
    {
        while (true)
        {
            SolveAffine(active, n);
            double step = 1;
            int leaving = -1;
            for (int a = 0; a < active; a++)
            {
                double weight = weights[_active[a]];
                if (_affine[a] > 0)
                    continue;
                double reach = weight <= 0 ? 0 : weight / (weight - _affine[a]);
                if (leaving < 0 || reach < step)
                {
                    step = reach;
                    leaving = a;
                }
            }

            for (int a = 0; a < active; a++)
                weights[_active[a]] += step * (_affine[a] - weights[_active[a]]);
            if (leaving < 0)
                return active;
            weights[_active[leaving]] = 0;
            int kept = 0;
            for (int a = 0; a < active; a++)
            {
                if (weights[_active[a]] > 0)
                    _active[kept++] = _active[a];
                else
                    weights[_active[a]] = 0;
            }

            active = kept;
        }
    }

    /// <summary>
    /// Weights with sum 1, of any sign, of the least norm over the active vectors: (G + c 1 1^T) x = 1, scaled to sum 1, for any c above 0. The
    /// matrix is positive definite when the vectors are affinely independent, which Wolfe's method keeps them; Cholesky factorisation. c is
    /// the least squared length, so that it does not drown short vectors.
    /// </summary>
    private void SolveAffine(int active, int n)
    {
        double shift = double.PositiveInfinity;
        for (int i = 0; i < active; i++)
            shift = Math.Min(shift, _lengths[_active[i]] * _lengths[_active[i]]);
        for (int i = 0; i < active; i++)
        {
            for (int j = 0; j <= i; j++)
            {
                double entry = shift + _gram[(_active[i] * n) + _active[j]];
                double value = entry;
                for (int k = 0; k < j; k++)
                    value -= _factor[(i * _capacity) + k] * _factor[(j * _capacity) + k];
                _factor[(i * _capacity) + j] = i == j ? Math.Sqrt(Math.Max(value, LeastPivot * entry)) : value / _factor[(j * _capacity) + j];
            }
        }

        for (int i = 0; i < active; i++)
        {
            double value = 1;
            for (int k = 0; k < i; k++)
                value -= _factor[(i * _capacity) + k] * _affine[k];
            _affine[i] = value / _factor[(i * _capacity) + i];
        }

        double sum = 0;
        for (int i = active - 1; i >= 0; i--)
        {
            double value = _affine[i];
            for (int k = i + 1; k < active; k++)
                value -= _factor[(k * _capacity) + i] * _affine[k];
            _affine[i] = value / _factor[(i * _capacity) + i];
            sum += _affine[i];
        }

        for (int i = 0; i < active; i++)
            _affine[i] /= sum;
    }
}
