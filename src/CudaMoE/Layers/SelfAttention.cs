using CudaMoE.Description;

namespace CudaMoE.Layers;

/// <summary>Wiring of a <see cref="SelfAttention"/>.</summary>
internal sealed record SelfAttentionPlan
{
    /// <summary>Prefix of the parameter names: "NAME.qkv.weight", "NAME.output.weight", and the biases.</summary>
    public required string Name { get; init; }

    /// <summary>[sequences * tokens, width].</summary>
    public required Slot X { get; init; }

    /// <summary>Tokens of a sequence.</summary>
    public required int Tokens { get; init; }

    public required int Heads { get; init; }

    /// <summary>1 = multi-query; null = as many as <see cref="Heads"/>.</summary>
    public int? KeyHeads { get; init; }

    /// <summary>Null = width / heads.</summary>
    public int? HeadWidth { get; init; }

    public bool Causal { get; init; }

    /// <summary>Whether the products have biases.</summary>
    public bool Bias { get; init; } = true;

    /// <summary>Base of rotary positions; null = none.</summary>
    public float? RotaryBase { get; init; }
}

/// <summary>
/// Self-attention: one product gives queries, keys and values, attention, one product back to the width of the input. The rows of "qkv.weight" are those of all
/// query heads, of the key heads and of the value heads.
/// </summary>
internal sealed unsafe class SelfAttention
{
    private readonly int _tokens;
    private readonly Linear _project;
    private readonly Rotary? _rotary;
    private readonly Attention _attention;
    private readonly Linear _output;
    private readonly Slot _qkv;
    private readonly Slot _turned;
    private readonly Slot? _qkvGradient;
    private readonly long _queryWidth;
    private readonly long _keyWidth;

    /// <param name="context">The context whose rows are the sequences.</param>
    /// <param name="plan">The wiring.</param>
    public SelfAttention(LayerContext context, SelfAttentionPlan plan)
    {
        _tokens = plan.Tokens;
        LayerContext tokens = context.Times(plan.Tokens);
        long width = plan.X.Columns;
        int headWidth = plan.HeadWidth ?? (int)(width / plan.Heads);
        int keyHeads = plan.KeyHeads ?? plan.Heads;
        _queryWidth = (long)plan.Heads * headWidth;
        _keyWidth = (long)keyHeads * headWidth;
        long all = _queryWidth + (2 * _keyWidth);
        _qkv = tokens.Reserve($"{plan.Name}.qkv", all);
        _turned = _qkv.Slice(0, _queryWidth + _keyWidth);
        _project = new(tokens, new()
        {
            Groups = 1,
            N = all,
            K = width,
            Input = GroupInput.Shared,
            X = plan.X,
            Y = _qkv,
            Weight = context.Parameters.Add($"{plan.Name}.qkv.weight", ParameterKind.Weight, all, width),
            Bias = plan.Bias ? context.Parameters.Add($"{plan.Name}.qkv.bias", ParameterKind.Bias, all) : null,
        });
        if (plan.RotaryBase is { } frequencyBase)
            _rotary = new(tokens, plan.Heads + keyHeads, headWidth, plan.Tokens, frequencyBase);
        _attention = new(context, new()
        {
            Name = $"{plan.Name}.attention",
            Q = _qkv.Slice(0, _queryWidth),
            K = _qkv.Slice(_queryWidth, _keyWidth),
            V = _qkv.Slice(_queryWidth + _keyWidth, _keyWidth),
            Heads = plan.Heads,
            KeyHeads = keyHeads,
            HeadWidth = headWidth,
            Queries = plan.Tokens,
            Keys = plan.Tokens,
            Causal = plan.Causal,
        });
        Output = tokens.Reserve($"{plan.Name}.output", width);
        _output = new(tokens, new()
        {
            Groups = 1,
            N = width,
            K = _queryWidth,
            Input = GroupInput.Shared,
            X = _attention.Output,
            Y = Output,
            Weight = context.Parameters.Add($"{plan.Name}.output.weight", ParameterKind.Weight, width, _queryWidth),
            Bias = plan.Bias ? context.Parameters.Add($"{plan.Name}.output.bias", ParameterKind.Bias, width) : null,
        });
        if (!context.Training)
            return;
        OutputGradient = tokens.Reserve($"{plan.Name}.output_gradient", width);
        _qkvGradient = tokens.Reserve($"{plan.Name}.qkv_gradient", all);
    }

    /// <summary>[sequences * tokens, width].</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward.</summary>
    public Slot OutputGradient { get; } = null!;

    public void Pack()
    {
        _project.Pack();
        _output.Pack();
    }

    /// <param name="sequences">Sequences of the batch.</param>
    /// <param name="tokenCounts">[sequences] tokens that are seen, in device memory; null = all. Kept until the backward.</param>
    public void Forward(long sequences, int* tokenCounts)
    {
        long rows = sequences * _tokens;
        _project.Forward(rows);
        _rotary?.Forward(rows, _turned);
        _attention.Forward(sequences, tokenCounts);
        _output.Forward(rows);
    }

    /// <summary>From <see cref="OutputGradient"/> to the parameters' gradients and the input's.</summary>
    /// <param name="sequences">Sequences of the batch.</param>
    /// <param name="dx">Receives the gradient of the input; null = nobody wants it.</param>
    /// <param name="accumulate">Whether to add to what <paramref name="dx"/> holds, as behind a residual connection.</param>
    public void Backward(long sequences, Slot? dx, bool accumulate)
    {
        long rows = sequences * _tokens;
        Slot gradient = _qkvGradient!;
        _output.BackwardWeights(rows, OutputGradient);
        _output.BackwardInput(rows, OutputGradient, new(_attention.OutputGradient, Accumulate: false, Below: null, ActivationKind.None));
        _attention.Backward(sequences, gradient.Slice(0, _queryWidth), gradient.Slice(_queryWidth, _keyWidth), gradient.Slice(_queryWidth + _keyWidth, _keyWidth));
        _rotary?.Backward(rows, gradient.Slice(0, _queryWidth + _keyWidth));
        _project.BackwardWeights(rows, gradient);
        if (dx != null)
            _project.BackwardInput(rows, gradient, new(dx, accumulate, Below: null, ActivationKind.None));
    }
}
