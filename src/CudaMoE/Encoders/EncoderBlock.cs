using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Encoders;

/// <summary>The matrices that all blocks of an encoder share: [rows, ...], a row a token.</summary>
/// <param name="X">What a block reads and leaves, [rows, width].</param>
/// <param name="Y">[rows, width], between the two parts of a block.</param>
/// <param name="Qkv">Queries, keys and values, [rows, 3 * width].</param>
/// <param name="Attended">[rows, width].</param>
/// <param name="Hidden">[rows, feed-forward].</param>
internal sealed record EncoderSlots(Slot X, Slot Y, Slot Qkv, Slot Attended, Slot Hidden);

/// <summary>
/// A transformer block (Vaswani et al. 2017) with the normalisation behind each sum, as in BERT, or before each part, as in a ViT:
/// <code>
/// BERT   y = LN(x + Attention(x))      x = LN(y + MLP(y))
/// ViT    x = x + Attention(LN(x))      x = x + MLP(LN(x))
/// </code>
/// The last product of each part adds to the sum in place.
/// </summary>
internal sealed unsafe class EncoderBlock
{
    private readonly bool _normFirst;
    private readonly string _name;
    private readonly FrozenLinear _project;
    private readonly FrozenAttention _attention;
    private readonly FrozenLinear _output;
    private readonly FrozenNorm _first;
    private readonly FrozenLinear _up;
    private readonly FrozenLinear _down;
    private readonly FrozenNorm _second;
    private readonly int _width;
    private readonly int _feedForward;
    private readonly bool _qkvBias;

    public EncoderBlock(LayerContext context, EncoderConfig config, int index, EncoderSlots slots)
    {
        (Slot x, Slot y) = (slots.X, slots.Y);
        _normFirst = config.Kind == EncoderKind.Vit;
        _name = $"encoder.layer.{index}";
        _width = config.Width;
        _feedForward = config.FeedForward;
        _qkvBias = config.QkvBias;
        _project = new(context, new($"{_name}.qkv", _normFirst ? y : x, slots.Qkv, Bias: config.QkvBias));
        _attention = new(context, slots.Qkv, slots.Attended, config.Heads);
        _output = new(context, new($"{_name}.attention.output", slots.Attended, x, Accumulate: true));
        _up = new(context, new($"{_name}.intermediate", y, slots.Hidden, config.Activation));
        _down = new(context, new($"{_name}.output", slots.Hidden, _normFirst ? x : y, Accumulate: true));
        _first = _normFirst ? new(context, $"{_name}.layernorm_before", x, y, config.Epsilon) : new(context, $"{_name}.attention.output.LayerNorm", x, y, config.Epsilon);
        _second = _normFirst ? new(context, $"{_name}.layernorm_after", x, y, config.Epsilon) : new(context, $"{_name}.output.LayerNorm", y, x, config.Epsilon);
    }

    /// <summary>Elements of the largest weight matrix.</summary>
    public long LargestWeight => Math.Max(_project.WeightCount, _up.WeightCount);

    /// <summary>Reads a normalisation's scale and shift.</summary>
    public static void Load(EncoderWeights weights, FrozenNorm norm)
    {
        float[] gamma = new float[norm.Width];
        float[] beta = new float[norm.Width];
        weights.Read($"{norm.Name}.weight", gamma, norm.Width);
        weights.Read($"{norm.Name}.bias", beta, norm.Width);
        norm.Load(gamma, beta);
    }

    /// <summary>Reads the block's weights.</summary>
    /// <param name="weights">The file.</param>
    /// <param name="host">Host memory for a weight matrix.</param>
    /// <param name="staging">Device memory for one.</param>
    public void Load(EncoderWeights weights, float[] host, DeviceBuffer staging)
    {
        string inner = _normFirst ? $"{_name}.attention.attention" : $"{_name}.attention.self";
        int square = _width * _width;
        float[] bias = new float[Math.Max(3 * _width, _feedForward)];
        string[] parts = ["query", "key", "value"];
        for (int i = 0; i < parts.Length; i++)
        {
            weights.Read($"{inner}.{parts[i]}.weight", host.AsSpan(i * square, square), _width, _width);
            if (_qkvBias)
                weights.Read($"{inner}.{parts[i]}.bias", bias.AsSpan(i * _width, _width), _width);
        }

        _project.Load(host.AsSpan(0, 3 * square), bias.AsSpan(0, 3 * _width), staging);
        Load(weights, _output, $"{_name}.attention.output.dense", _width, _width, host, bias, staging);
        Load(weights, _up, $"{_name}.intermediate.dense", _feedForward, _width, host, bias, staging);
        Load(weights, _down, $"{_name}.output.dense", _width, _feedForward, host, bias, staging);
        Load(weights, _first);
        Load(weights, _second);
    }

    /// <summary>Runs the block on sequences of equally many rows.</summary>
    public void Forward(long sequences, long tokens, int* counts)
    {
        long rows = sequences * tokens;
        if (_normFirst)
            _first.Forward(rows);
        _project.Forward(rows);
        _attention.Forward(sequences, tokens, counts);
        _output.Forward(rows);
        if (_normFirst)
            _second.Forward(rows);
        else
            _first.Forward(rows);
        _up.Forward(rows);
        _down.Forward(rows);
        if (!_normFirst)
            _second.Forward(rows);
    }

    private static void Load(EncoderWeights weights, FrozenLinear layer, string name, int n, int k, float[] host, float[] bias, DeviceBuffer staging)
    {
        weights.Read($"{name}.weight", host.AsSpan(0, n * k), n, k);
        weights.Read($"{name}.bias", bias.AsSpan(0, n), n);
        layer.Load(host.AsSpan(0, n * k), bias.AsSpan(0, n), staging);
    }
}
