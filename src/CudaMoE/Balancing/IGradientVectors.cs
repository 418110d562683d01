namespace CudaMoE.Balancing;

/// <summary>
/// The tasks' gradients of a step as vectors that a balancer compares and keeps, wherever they lie: sums of a representation's columns on the host (<see cref="ColumnVectors"/>), or
/// gradients of shared parameters on the device. The tasks' own weights are not applied.
/// </summary>
internal interface IGradientVectors
{
    /// <summary>Length of a task's vector.</summary>
    double Length(int task);

    /// <summary>[K, K] inner products of the vectors of the even rows with those of the odd rows, both doubled: of two independent estimates.</summary>
    void HalfProducts(Span<double> products);

    /// <summary>Moves the kept vectors: y_t = keep_t y_t + rate_t g_t, y_t = 0 at the start. Where the rate is 0, g_t is not looked at.</summary>
    void Track(ReadOnlySpan<double> keep, ReadOnlySpan<double> rates);

    /// <summary>Inner product of two kept vectors.</summary>
    double TrackedProduct(int first, int second);

    /// <summary>Adds squares, S_t += (f_t g_t)², and gives the sums over the elements of (f_t g_t)² / sqrt(S_t). Where the factor is 0, S_t stays.</summary>
    void AddSquares(ReadOnlySpan<double> factors, Span<double> sums);

    /// <summary>Adds what is kept to a checkpoint, but for what lies on the device.</summary>
    void Save(Dictionary<string, IReadOnlyList<double>> state);

    /// <summary>Takes it back; <paramref name="take"/> gives an entry of as many values.</summary>
    void Load(Func<string, int, IReadOnlyList<double>> take);
}

/// <summary>What a balancer does with gradient vectors, which says what must be kept of them.</summary>
internal enum VectorUse
{
    /// <summary>None are looked at.</summary>
    None,

    /// <summary>Products of two halves of the batch.</summary>
    Halves,

    /// <summary>Averages from step to step.</summary>
    Tracked,

    /// <summary>Sums of squares.</summary>
    Squares,
}
