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
    private readonly Linear _input;
    private readonly Rotary _rotary;
    private readonly Attention _attention;
    private readonly GatedProduct _product;
    private readonly Linear _attentionOut;
    private readonly Linear _productOut;
    private readonly Slot _mixed;
    private readonly Slot? _mixedGradient;
    private readonly long _queryWidth;
    private readonly long _keyWidth;
    private readonly long _hidden;

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
        _hidden = plan.FeedForward;
        long columns = _queryWidth + (2 * _keyWidth) + (2 * _hidden);
        _norm = new(tokens, $"{plan.Name}.norm", plan.X, shift: false);
        _mixed = tokens.Reserve($"{plan.Name}.mixed", columns);
        _input = new(tokens, new()
        {
            Groups = 1,
            N = columns,
            K = width,
            Input = GroupInput.Shared,
            X = _norm.Output,
            Y = _mixed,
            Weight = context.Parameters.Add($"{plan.Name}.input.weight", ParameterKind.Weight, columns, width),
        });
        _rotary = new(tokens, plan.Heads + 1, plan.HeadWidth, plan.Tokens);
        _attention = new(context, new()
        {
            Name = $"{plan.Name}.attention",
            Q = Queries(_mixed),
            K = Keys(_mixed),
            V = Values(_mixed),
            Heads = plan.Heads,
            KeyHeads = 1,
            HeadWidth = plan.HeadWidth,
            Queries = plan.Tokens,
            Keys = plan.Tokens,
        });
        _product = new(tokens, $"{plan.Name}.product", Factor(_mixed), Gate(_mixed), ActivationKind.Silu);
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
            K = _hidden,
            X = _product.Output,
            Accumulate = true,
            Weight = context.Parameters.Add($"{plan.Name}.gated.weight", ParameterKind.Weight, width, _hidden),
        });
        if (!context.Training)
            return;
        OutputGradient = tokens.ReserveExact($"{plan.Name}.output_gradient", width);
        _mixedGradient = tokens.Reserve($"{plan.Name}.mixed_gradient", columns);
    }

    /// <summary>[sequences * tokens, width], rows without gaps.</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward; rows without gaps.</summary>
    public Slot OutputGradient { get; } = null!;

    public void Initialize() => _norm.Initialize();

    public void Pack()
    {
        _input.Pack();
        _attentionOut.Pack();
        _productOut.Pack();
    }

    /// <param name="sequences">Sequences of the batch.</param>
    /// <param name="tokenCounts">[sequences] tokens that are seen, in device memory; null = all. Kept until the backward.</param>
    public void Forward(long sequences, int* tokenCounts)
    {
        long rows = sequences * _tokens;
        _norm.Forward(rows);
        _input.Forward(rows);
        _rotary.Forward(rows, QueriesAndKeys(_mixed));
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
        Slot mixed = _mixedGradient!;
        _attentionOut.BackwardWeights(rows, OutputGradient);
        _attentionOut.BackwardInput(rows, OutputGradient, Whole(_attention.OutputGradient));
        _productOut.BackwardWeights(rows, OutputGradient);
        _productOut.BackwardInput(rows, OutputGradient, Whole(_product.OutputGradient));
        _attention.Backward(sequences, Queries(mixed), Keys(mixed), Values(mixed));
        _rotary.Backward(rows, QueriesAndKeys(mixed));
        _product.Backward(rows, Factor(mixed), Gate(mixed));
        _input.BackwardWeights(rows, mixed);
        _input.BackwardInput(rows, mixed, Whole(_norm.OutputGradient));
        _norm.Backward(rows, dx);
        if (_residual)
            _sums.Add(rows, OutputGradient, dx);
    }

    // Columns of the normalised input's product: [q, k, v, a, b].
    private Slot Queries(Slot mixed) => mixed.Slice(0, _queryWidth);

    private Slot Keys(Slot mixed) => mixed.Slice(_queryWidth, _keyWidth);

    private Slot QueriesAndKeys(Slot mixed) => mixed.Slice(0, _queryWidth + _keyWidth);

    private Slot Values(Slot mixed) => mixed.Slice(_queryWidth + _keyWidth, _keyWidth);

    private Slot Factor(Slot mixed) => mixed.Slice(_queryWidth + (2 * _keyWidth), _hidden);

    private Slot Gate(Slot mixed) => mixed.Slice(_queryWidth + (2 * _keyWidth) + _hidden, _hidden);

    private static InputGradientTarget Whole(Slot dx) => new(dx, Accumulate: false, Below: null, ActivationKind.None);
}
