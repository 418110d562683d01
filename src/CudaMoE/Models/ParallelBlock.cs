using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>Wiring of a <see cref="ParallelBlock"/>.</summary>
internal sealed record ParallelBlockPlan
{
    /// <summary>Prefix of the parameter names.</summary>
    public required string Name { get; init; }

    /// <summary>[sequences * tokens, width].</summary>
    public required Slot X { get; init; }

    /// <summary>Tokens of a sequence.</summary>
    public required int Tokens { get; init; }

    public required int Heads { get; init; }

    public required int HeadWidth { get; init; }

    /// <summary>Width of the gated layer.</summary>
    public required int FeedForward { get; init; }

    /// <summary>Whether the input is added to the output.</summary>
    public required bool Residual { get; init; }
}

/// <summary>
/// A transformer block whose attention and gated layer run side by side on one normalised input: multi-query attention with rotary positions, SwiGLU, no biases.
/// <code>u = LayerNorm(x)   [q, k, v, a, b] = u W_in   y = attention(q, k, v) W_o + (a * SiLU(b)) W_f  (+ x)</code>
/// </summary>
internal sealed unsafe class ParallelBlock
{
    private readonly int _tokens;
    private readonly bool _residual;
    private readonly Slot _x;
    private readonly SlotSums _sums;
    private readonly LayerNorm _norm;
    private readonly Linear _queries;
    private readonly Linear _linear;
    private readonly Linear _gated;
    private readonly Rotary _rotary;
    private readonly Attention _attention;
    private readonly GatedProduct _product;
    private readonly Linear _attentionOut;
    private readonly Linear _productOut;
    private readonly Slot _qkv;
    private readonly Slot? _qkvGradient;
    private readonly long _queryWidth;
    private readonly long _keyWidth;

    /// <param name="context">The context whose rows are the sequences.</param>
    /// <param name="sums">Copies and sums.</param>
    /// <param name="plan">The wiring.</param>
    public ParallelBlock(LayerContext context, SlotSums sums, ParallelBlockPlan plan)
    {
        _tokens = plan.Tokens;
        _residual = plan.Residual;
        _x = plan.X;
        _sums = sums;
        LayerContext tokens = context.Times(plan.Tokens);
        long width = plan.X.Columns;
        _queryWidth = (long)plan.Heads * plan.HeadWidth;
        _keyWidth = plan.HeadWidth;
        long qkvWidth = _queryWidth + (2 * _keyWidth);
        long hidden = plan.FeedForward;
        _norm = new(tokens, $"{plan.Name}.norm", plan.X, shift: false);
        ParameterBlock weight = context.Parameters.Add($"{plan.Name}.input.weight", ParameterKind.Weight, qkvWidth + (2 * hidden), width);
        _qkv = tokens.Reserve($"{plan.Name}.qkv", qkvWidth);
        Slot a = tokens.ReserveExact($"{plan.Name}.a", hidden), b = tokens.ReserveExact($"{plan.Name}.b", hidden);
        Slot? before = context.Training ? tokens.ReserveExact($"{plan.Name}.b_before", hidden) : null;
        LinearPlan input = new() { Groups = 1, N = qkvWidth, K = width, Input = GroupInput.Shared, X = _norm.Output, Y = _qkv, Weight = weight.Slice(0, qkvWidth * width) };
        _queries = new(tokens, input);
        _linear = new(tokens, input with { N = hidden, Y = a, Weight = weight.Slice(qkvWidth * width, hidden * width) });
        _gated = new(tokens, input with { N = hidden, Y = b, Weight = weight.Slice((qkvWidth + hidden) * width, hidden * width), Activation = ActivationKind.Silu, Preactivation = before });
        _rotary = new(tokens, plan.Heads + 1, plan.HeadWidth, plan.Tokens);
        _attention = new(context, new()
        {
            Name = $"{plan.Name}.attention",
            Q = _qkv.Slice(0, _queryWidth),
            K = _qkv.Slice(_queryWidth, _keyWidth),
            V = _qkv.Slice(_queryWidth + _keyWidth, _keyWidth),
            Heads = plan.Heads,
            KeyHeads = 1,
            HeadWidth = plan.HeadWidth,
            Queries = plan.Tokens,
            Keys = plan.Tokens,
        });
        _product = new(tokens, $"{plan.Name}.product", a, b, before, ActivationKind.Silu);
        Output = tokens.ReserveExact($"{plan.Name}.output", width);
        LinearPlan output = new()
        {
            Groups = 1,
            N = width,
            K = _queryWidth,
            Input = GroupInput.Shared,
            X = _attention.Output,
            Y = Output,
            Accumulate = plan.Residual,
            Weight = context.Parameters.Add($"{plan.Name}.attention.weight", ParameterKind.Weight, width, _queryWidth),
        };
        _attentionOut = new(tokens, output);
        _productOut = new(tokens, output with
        {
            K = hidden,
            X = _product.Output,
            Accumulate = true,
            Weight = context.Parameters.Add($"{plan.Name}.gated.weight", ParameterKind.Weight, width, hidden),
        });
        if (!context.Training)
            return;
        OutputGradient = tokens.ReserveExact($"{plan.Name}.output_gradient", width);
        _qkvGradient = tokens.Reserve($"{plan.Name}.qkv_gradient", qkvWidth);
    }

    /// <summary>[sequences * tokens, width], rows without gaps.</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward; rows without gaps.</summary>
    public Slot OutputGradient { get; } = null!;

    public void Initialize() => _norm.Initialize();

    public void Pack()
    {
        _queries.Pack();
        _linear.Pack();
        _gated.Pack();
        _attentionOut.Pack();
        _productOut.Pack();
    }

    /// <param name="sequences">Sequences of the batch.</param>
    /// <param name="tokenCounts">[sequences] tokens that are seen, in device memory; null = all. Kept until the backward.</param>
    public void Forward(long sequences, int* tokenCounts)
    {
        long rows = sequences * _tokens;
        _norm.Forward(rows);
        _queries.Forward(rows);
        _linear.Forward(rows);
        _gated.Forward(rows);
        _rotary.Forward(rows, _qkv.Slice(0, _queryWidth + _keyWidth));
        _attention.Forward(sequences, tokenCounts);
        _product.Forward(rows);
        if (_residual)
            _sums.Copy(rows, _x, Output);
        _attentionOut.Forward(rows);
        _productOut.Forward(rows);
    }

    /// <summary>From <see cref="OutputGradient"/> to the parameters' gradients and the input's, which is overwritten.</summary>
    public void Backward(long sequences, Slot dx)
    {
        long rows = sequences * _tokens;
        Slot qkv = _qkvGradient!;
        _attentionOut.BackwardWeights(rows, OutputGradient);
        _attentionOut.BackwardInput(rows, OutputGradient, Whole(_attention.OutputGradient));
        _productOut.BackwardWeights(rows, OutputGradient);
        _productOut.BackwardInput(rows, OutputGradient, Whole(_product.OutputGradient));
        _attention.Backward(sequences, qkv.Slice(0, _queryWidth), qkv.Slice(_queryWidth, _keyWidth), qkv.Slice(_queryWidth + _keyWidth, _keyWidth));
        _rotary.Backward(rows, qkv.Slice(0, _queryWidth + _keyWidth));
        _product.Backward(rows);
        _queries.BackwardWeights(rows, qkv);
        _linear.BackwardWeights(rows, _product.AGradient);
        _gated.BackwardWeights(rows, _product.BGradient);
        _queries.BackwardInput(rows, qkv, Whole(_norm.OutputGradient));
        _linear.BackwardInput(rows, _product.AGradient, Whole(_norm.OutputGradient) with { Accumulate = true });
        _gated.BackwardInput(rows, _product.BGradient, Whole(_norm.OutputGradient) with { Accumulate = true });
        _norm.Backward(rows, dx);
        if (_residual)
            _sums.Add(rows, OutputGradient, dx);
    }

    private static InputGradientTarget Whole(Slot dx) => new(dx, Accumulate: false, Below: null, ActivationKind.None);
}
