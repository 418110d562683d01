using System.Runtime.InteropServices;
using System.Text;
using CudaMoE.Data;

namespace CudaMoE.Streaming;

/// <summary>
/// States for data without texts or pictures, and for tests: random projections of latent factors of the items. The factors of an item are drawn from its
/// name, and, for the share that is given, from the name of its group, so that items of a group are alike.
/// </summary>
/// <remarks>
/// Factors f = sqrt(share) F(group) + sqrt(1 - share) F(item), F standard normal of the name's hash; an item without a group draws all of its factors from
/// its own name. Layer 0 is f P_0 / sqrt(factors); layer l is tanh of the layer below times P_l, scaled to a mean square of 1; P_l is standard normal.
/// Everything follows from the seed.
/// </remarks>
public sealed class SyntheticStates : IItemStates
{
    private readonly IReadOnlyDictionary<string, string> _groups;
    private readonly double _share;
    private readonly ulong _seed;
    private readonly int _factors;
    private readonly float[][] _projections;

    /// <param name="layers">Layers, the embedding output counted.</param>
    /// <param name="width">Numbers of a state.</param>
    /// <param name="factors">Latent factors.</param>
    /// <param name="seed">The seed.</param>
    /// <param name="groups">The group of each item that has one; null = none has.</param>
    /// <param name="groupShare">How much of the factors' variance comes from the group, 0 to 1.</param>
    public SyntheticStates(int layers, int width, int factors, ulong seed, IReadOnlyDictionary<string, string>? groups = null, double groupShare = 0.5)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(layers, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(width, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(factors, 1);
        if (groupShare is not (>= 0 and <= 1))
            throw new ArgumentOutOfRangeException(nameof(groupShare), groupShare, "must be 0 to 1");
        Layers = layers;
        Width = width;
        _factors = factors;
        _seed = seed;
        _groups = groups ?? new Dictionary<string, string>();
        _share = groupShare;
        _projections = new float[layers][];
        for (int layer = 0; layer < layers; layer++)
        {
            int inputs = layer == 0 ? factors : width;
            KeyedNormals normals = new(Key("projection", layer.ToString(System.Globalization.CultureInfo.InvariantCulture)));
            float[] projection = new float[inputs * width];
            for (int i = 0; i < projection.Length; i++)
                projection[i] = normals.Next();
            _projections[layer] = projection;
        }
    }

    /// <inheritdoc/>
    public int Layers { get; }

    /// <inheritdoc/>
    public int Width { get; }

    /// <inheritdoc/>
    public bool Read(string item, Span<float> states)
    {
        float[] factors = new float[_factors];
        bool grouped = _groups.TryGetValue(item, out string? group);
        double own = grouped ? Math.Sqrt(1 - _share) : 1;
        KeyedNormals ofItem = new(Key("item", item));
        for (int i = 0; i < factors.Length; i++)
            factors[i] = (float)(own * ofItem.Next());
        if (grouped)
        {
            KeyedNormals ofGroup = new(Key("group", group!));
            for (int i = 0; i < factors.Length; i++)
                factors[i] += (float)(Math.Sqrt(_share) * ofGroup.Next());
        }

        for (int layer = 0; layer < Layers; layer++)
        {
            ReadOnlySpan<float> input = layer == 0 ? factors : states.Slice((layer - 1) * Width, Width);
            Project(input, _projections[layer], states.Slice(layer * Width, Width), squash: layer > 0);
        }

        return true;
    }

    private static void Project(ReadOnlySpan<float> input, float[] projection, Span<float> output, bool squash)
    {
        double[] sums = new double[output.Length];
        for (int i = 0; i < input.Length; i++)
        {
            double factor = squash ? Math.Tanh(input[i]) : input[i];
            ReadOnlySpan<float> row = projection.AsSpan(i * output.Length, output.Length);
            for (int j = 0; j < row.Length; j++)
                sums[j] += factor * row[j];
        }

        double square = 0;
        foreach (double sum in sums)
            square += sum * sum;
        double scale = squash ? (square > 0 ? Math.Sqrt(output.Length / square) : 0) : 1 / Math.Sqrt(input.Length);
        for (int j = 0; j < output.Length; j++)
            output[j] = (float)(sums[j] * scale);
    }

    private ulong Key(string kind, string name) =>
        XxHash64.Hash(Encoding.UTF8.GetBytes(name), XxHash64.Hash(MemoryMarshal.AsBytes(kind.AsSpan()), _seed));
}
