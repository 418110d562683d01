namespace CudaMoE.Balancing;

/// <summary>
/// Solves (C b)_i = c_i b_i^(-1/alpha), b above 0, for a matrix of cosines C: the condition of Nash-MTL (alpha 1) and FairGrad. It is the minimiser of
/// 1/2 b^T C b - sum c_i u(b_i) with u' = b^(-1/alpha), which is strictly convex once C has a small ridge; damped Newton steps.
/// </summary>
/// <remarks>Not thread-safe; allocates only when it is made.</remarks>
internal sealed class FairnessSolver(int capacity)
{
    // Opposite gradients have no finite solution. The ridge makes one, far out; it moves the solution of other matrices by about as much.
    private const double Ridge = 1e-8;
    private const int MaxRounds = 200;

    // Of the condition, beside what rounding may leave of products that cancel: about n 2^-52 of their size.
    private const double Accepted = 1e-7;
    private const double Rounding = 1e-14;

    private readonly double[] _hessian = new double[capacity * capacity];
    private readonly double[] _step = new double[capacity];
    private readonly double[] _trial = new double[capacity];

    /// <summary>Solves it; false when the rounds did not lead to a solution.</summary>
    /// <param name="cosines">n * n, 1 on the diagonal.</param>
    /// <param name="right">n factors above 0.</param>
    /// <param name="alpha">Above 0.</param>
    /// <param name="b">Receives n numbers above 0.</param>
    public bool Solve(ReadOnlySpan<double> cosines, ReadOnlySpan<double> right, double alpha, Span<double> b)
    {
        int n = b.Length;
        double power = 1 / alpha;
        for (int i = 0; i < n; i++)
            b[i] = Math.Pow(right[i], alpha / (1 + alpha));
        double previous = double.PositiveInfinity;
        for (int round = 0; round < MaxRounds; round++)
        {
            // A residual that no longer halves is rounding; steps taken on it would only drift away from the solution.
            double residual = SetStep(cosines, right, power, b);
            if (residual <= 1e-12 || (residual <= Accepted && residual > previous / 2))
                return true;
            previous = residual;
            if (!Cholesky.Factor(_hessian.AsSpan(0, n * n), n))
                return false;
            Span<double> step = _step.AsSpan(0, n);
            step.CopyTo(_trial);
            Cholesky.Solve(_hessian, n, step);
            double slope = 0;
            double length = 1;
            for (int i = 0; i < n; i++)
            {
                slope += _trial[i] * step[i];
                length = step[i] < 0 ? Math.Min(length, -0.95 * b[i] / step[i]) : length;
            }

            // Along the step the derivative rises from -slope; a step that ends much past the minimum is halved. Values of the function would drown in rounding.
            while (length > 1e-12 && Derivative(cosines, right, power, b, length) > 0.9 * slope)
                length /= 2;
            bool moved = false;
            for (int i = 0; i < n; i++)
            {
                double next = b[i] + (length * step[i]);
                moved |= next != b[i];
                b[i] = next;
            }

            if (!moved)
                break;
        }

        return SetStep(cosines, right, power, b) <= Accepted;
    }

    /// <summary>The derivative of the function along the step, after a part of it.</summary>
    private double Derivative(ReadOnlySpan<double> cosines, ReadOnlySpan<double> right, double power, ReadOnlySpan<double> b, double length)
    {
        int n = b.Length;
        for (int i = 0; i < n; i++)
            _trial[i] = b[i] + (length * _step[i]);
        double derivative = 0;
        for (int i = 0; i < n; i++)
        {
            double product = Ridge * _trial[i];
            for (int j = 0; j < n; j++)
                product += cosines[(i * n) + j] * _trial[j];
            derivative += _step[i] * (product - (right[i] * Math.Pow(_trial[i], -power)));
        }

        return derivative;
    }

    /// <summary>Sets the Hessian and the negative gradient; gives the largest residual, relative to the target and to rounding.</summary>
    private double SetStep(ReadOnlySpan<double> cosines, ReadOnlySpan<double> right, double power, ReadOnlySpan<double> b)
    {
        int n = b.Length;
        double largest = 0;
        for (int i = 0; i < n; i++)
        {
            double product = Ridge * b[i];
            double size = 0;
            for (int j = 0; j < n; j++)
            {
                product += cosines[(i * n) + j] * b[j];
                size += Math.Abs(cosines[(i * n) + j]) * b[j];
                _hessian[(i * n) + j] = cosines[(i * n) + j];
            }

            double target = right[i] * Math.Pow(b[i], -power);
            _step[i] = target - product;
            _hessian[(i * n) + i] += Ridge + (power * target / b[i]);
            largest = Math.Max(largest, Math.Abs(_step[i]) / (target + (Rounding / Accepted * size)));
        }

        return largest;
    }
}
