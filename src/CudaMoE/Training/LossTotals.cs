namespace CudaMoE.Training;

/// <summary>Sums of losses and weights of each task since the start of an epoch.</summary>
internal sealed class LossTotals(int tasks)
{
    private readonly double[] _sums = new double[tasks];
    private readonly double[] _weights = new double[tasks];

    /// <summary>Sums of loss * weight.</summary>
    public ReadOnlySpan<double> Sums => _sums;

    /// <summary>Sums of the weights.</summary>
    public ReadOnlySpan<double> Weights => _weights;

    /// <summary>Mean loss of each task; NaN for one without labels.</summary>
    public double[] Means => [.. _sums.Zip(_weights, (sum, weight) => weight > 0 ? sum / weight : double.NaN)];

    /// <summary>Adds a step.</summary>
    public void Add(ReadOnlySpan<double> losses, ReadOnlySpan<double> weights)
    {
        for (int t = 0; t < _sums.Length; t++)
        {
            _sums[t] += losses[t] * weights[t];
            _weights[t] += weights[t];
        }
    }

    /// <summary>Starts anew.</summary>
    public void Clear()
    {
        Array.Clear(_sums);
        Array.Clear(_weights);
    }

    /// <summary>Goes on from saved sums; null = from zero.</summary>
    public void Load(IReadOnlyList<double>? sums, IReadOnlyList<double>? weights)
    {
        for (int t = 0; t < _sums.Length; t++)
        {
            _sums[t] = sums?[t] ?? 0;
            _weights[t] = weights?[t] ?? 0;
        }
    }
}
