namespace CudaMoE.Balancing;

/// <summary>Vectors that are sums over rows of the gradients on a representation, in double on the host; see <see cref="ColumnKind"/>.</summary>
/// <param name="tasks">K.</param>
/// <param name="use">What they are for.</param>
internal sealed class ColumnVectors(int tasks, VectorUse use) : IGradientVectors
{
    private const string WidthKey = "width";
    private const string KeptKey = "vectors";
    private const double Least = 1e-30;

    private readonly int _parts = use == VectorUse.Halves ? 2 : 1;
    private readonly bool _keeps = use is VectorUse.Tracked or VectorUse.Squares;
    private double[] _vectors = [];
    private double[] _kept = [];

    /// <summary>Columns of a gradient; 0 before the first step.</summary>
    public int Width { get; private set; }

    /// <summary>Takes this step's sums, [parts, K, width].</summary>
    public void Set(ReadOnlySpan<double> columns)
    {
        int width = columns.Length / (tasks * _parts);
        if (width == 0 || width * tasks * _parts != columns.Length || (Width > 0 && width != Width))
            throw new ArgumentException($"columns has {columns.Length} entries; it must have {_parts} x {tasks} x the gradients' width{(Width > 0 ? $", {Width}" : "")}");
        if (Width == 0)
            SetWidth(width);
        columns.CopyTo(_vectors);
    }

    /// <summary>A task's vector, with two halves that of one of them.</summary>
    public ReadOnlySpan<double> Vector(int task, int part = 0) => _vectors.AsSpan(((part * tasks) + task) * Width, Width);

    /// <inheritdoc/>
    public double Length(int task) => Math.Sqrt(Dot(Vector(task), Vector(task)));

    /// <inheritdoc/>
    public void HalfProducts(Span<double> products)
    {
        for (int i = 0; i < tasks; i++)
        {
            for (int j = 0; j < tasks; j++)
                products[(i * tasks) + j] = Dot(Vector(i), Vector(j, part: 1));
        }
    }

    /// <inheritdoc/>
    public void Track(ReadOnlySpan<double> keep, ReadOnlySpan<double> rates)
    {
        for (int task = 0; task < tasks; task++)
        {
            if (keep[task] == 1 && rates[task] == 0)
                continue;
            ReadOnlySpan<double> vector = Vector(task);
            Span<double> kept = Kept(task);
            for (int k = 0; k < kept.Length; k++)
                kept[k] = (keep[task] * kept[k]) + (rates[task] == 0 ? 0 : rates[task] * vector[k]);
        }
    }

    /// <inheritdoc/>
    public double TrackedProduct(int first, int second) => Dot(Kept(first), Kept(second));

    /// <inheritdoc/>
    public void AddSquares(ReadOnlySpan<double> factors, Span<double> sums)
    {
        for (int task = 0; task < tasks; task++)
        {
            sums[task] = 0;
            if (factors[task] == 0)
                continue;
            ReadOnlySpan<double> vector = Vector(task);
            Span<double> squares = Kept(task);
            for (int k = 0; k < squares.Length; k++)
            {
                double square = factors[task] * vector[k] * factors[task] * vector[k];
                squares[k] += square;
                sums[task] += squares[k] > Least ? square / Math.Sqrt(squares[k]) : 0;
            }
        }
    }

    /// <inheritdoc/>
    public void Save(Dictionary<string, IReadOnlyList<double>> state)
    {
        state.Add(WidthKey, [Width]);
        if (_kept.Length > 0)
            state.Add(KeptKey, [.. _kept]);
    }

    /// <inheritdoc/>
    public void Load(Func<string, int, IReadOnlyList<double>> take)
    {
        int width = (int)take(WidthKey, 1)[0];
        if (width <= 0)
            return;
        SetWidth(width);
        if (_kept.Length > 0)
            _kept = [.. take(KeptKey, _kept.Length)];
    }

    private static double Dot(ReadOnlySpan<double> first, ReadOnlySpan<double> second)
    {
        double sum = 0;
        for (int k = 0; k < first.Length; k++)
            sum += first[k] * second[k];
        return sum;
    }

    private Span<double> Kept(int task) => _kept.AsSpan(task * Width, Width);

    private void SetWidth(int width)
    {
        Width = width;
        _vectors = new double[_parts * tasks * width];
        _kept = new double[_keeps ? tasks * width : 0];
    }
}
