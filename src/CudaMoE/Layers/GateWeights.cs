namespace CudaMoE.Layers;

/// <summary>Neighbouring experts that a gate sees.</summary>
/// <param name="First">The first.</param>
/// <param name="Count">Their number.</param>
internal readonly record struct ExpertRange(int First, int Count);

/// <summary>
/// Weights and biases of gates as matrices [gates, experts, width] and [gates, experts]. Where every gate sees all experts these are the parameters
/// themselves. Else the parameters hold the visible experts' rows only, gate after gate, and are copied into full matrices whose other rows are 0 with bias
/// -1e30: the softmax of such a logit is exactly 0, and so is its gradient.
/// </summary>
internal sealed unsafe class GateWeights
{
    private const float Invisible = -1e30f;
    private readonly LayerContext _context;
    private readonly long _columns;
    private readonly long _width;
    private readonly ParameterBlock _weight;
    private readonly ParameterBlock? _bias;
    private readonly List<(long Source, long Target, long Count)> _visible = [];
    private readonly bool _masked;
    private nint _fullWeight;
    private nint _fullBias;
    private nint _fullWeightGradient;
    private nint _fullBiasGradient;

    /// <param name="context">The context.</param>
    /// <param name="name">Prefix of the parameters' names.</param>
    /// <param name="gates">Gates.</param>
    /// <param name="experts">Experts.</param>
    /// <param name="width">Width of what a gate reads.</param>
    /// <param name="visible">For each gate the experts that it sees, ascending; null = all gates see all.</param>
    /// <param name="bias">Whether there are biases.</param>
    public GateWeights(LayerContext context, string name, int gates, int experts, long width, IReadOnlyList<IReadOnlyList<ExpertRange>>? visible, bool bias)
    {
        _context = context;
        _columns = (long)gates * experts;
        _width = width;
        _masked = visible != null;
        long rows = visible == null ? _columns : ListVisible(visible, experts);
        _weight = context.Parameters.Add($"{name}.weight", ParameterKind.Weight, rows, width);
        _bias = bias ? context.Parameters.Add($"{name}.bias", ParameterKind.Bias, rows) : null;
        if (!_masked)
            return;
        context.Packed.Reserve($"{name}.full_weight", _columns * width * sizeof(float), p => _fullWeight = p);
        context.Packed.Reserve($"{name}.full_bias", _columns * sizeof(float), p => _fullBias = p);
        if (context.Training)
        {
            context.Activations.Reserve($"{name}.full_weight_gradient", _columns * width * sizeof(float), p => _fullWeightGradient = p);
            context.Activations.Reserve($"{name}.full_bias_gradient", _columns * sizeof(float), p => _fullBiasGradient = p);
        }

        context.OnBind(SetInvisible);
    }

    public float* Weight => _masked ? (float*)_fullWeight : _weight.Value;

    /// <summary>Null where there are none.</summary>
    public float* Bias => _masked ? (float*)_fullBias : _bias == null ? null : _bias.Value;

    public float* WeightGradient => _masked ? (float*)_fullWeightGradient : _weight.Gradient;

    /// <summary>Null where there are no biases to train.</summary>
    public float* BiasGradient => _bias == null ? null : _masked ? (float*)_fullBiasGradient : _bias.Gradient;

    /// <summary>Brings the full matrices up to date; after every change of the parameters.</summary>
    public void Pack()
    {
        foreach ((long source, long target, long count) in _visible)
        {
            Copy(_weight.Value + (source * _width), Weight + (target * _width), count * _width);
            if (_bias != null)
                Copy(_bias.Value + source, Bias + target, count);
        }
    }

    /// <summary>From the gradients of the full matrices to those of the parameters.</summary>
    public void StoreGradients()
    {
        foreach ((long source, long target, long count) in _visible)
        {
            Copy(WeightGradient + (target * _width), _weight.Gradient + (source * _width), count * _width);
            if (_bias != null)
                Copy(BiasGradient + target, _bias.Gradient + source, count);
        }
    }

    private void Copy(float* source, float* target, long count) => _context.Stream.CopyOnDevice((nint)source, (nint)target, count * sizeof(float));

    /// <summary>Lists which rows of the parameters go where; answers the number of the parameters' rows.</summary>
    private long ListVisible(IReadOnlyList<IReadOnlyList<ExpertRange>> visible, int experts)
    {
        long source = 0;
        for (int gate = 0; gate < visible.Count; gate++)
        {
            foreach (ExpertRange range in visible[gate])
            {
                _visible.Add((source, ((long)gate * experts) + range.First, range.Count));
                source += range.Count;
            }
        }

        return source;
    }

    private void SetInvisible()
    {
        float[] bias = new float[_columns];
        Array.Fill(bias, Invisible);
        foreach ((_, long target, long count) in _visible)
            bias.AsSpan((int)target, (int)count).Clear();
        _context.Stream.CopyToDevice<float>(bias, _fullBias);
        _context.Stream.CopyToDevice<float>(new float[_columns * _width], _fullWeight);
    }
}
