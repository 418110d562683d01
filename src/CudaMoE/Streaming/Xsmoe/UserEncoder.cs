using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Streaming.Xsmoe;

/// <summary>
/// The user encoder: layer norm of item vectors plus positions, then transformer blocks with the norm behind each residual sum (SASRec, Kang and McAuley
/// 2018, in the form of
/// XSMoE's code): x = LN(x + MHA(x)), x = LN(x + W2 ReLU(W1 x + b1) + b2). Row i of a sequence sees the rows up to i. Dropout is on the input and on both
/// branches, not on the
/// attention's weights.
/// </summary>
internal sealed unsafe class UserEncoder
{
    private const float Epsilon = 1e-6f;
    private readonly int _history;
    private readonly SlotSums _sums;
    private readonly LayerNorm _norm;
    private readonly Dropout _dropout;
    private readonly Block[] _blocks;
    private readonly Slot _start;

    /// <param name="context">The context whose rows are sequences.</param>
    /// <param name="shape">The model.</param>
    /// <param name="input">[sequences * history, hidden] item vectors plus positions.</param>
    public UserEncoder(LayerContext context, XsmoeShape shape, Slot input)
    {
        LayerContext tokens = context.Times(shape.History);
        _history = shape.History;
        _sums = new(context);
        _norm = new(tokens, "user.norm", input, epsilon: Epsilon);
        _dropout = new(tokens, "user.input", _norm.Output, shape.Dropout, shape.Seed, place: 0);
        // Blocks read one slot, whether there is dropout or not: the first norm's output, or a copy of what dropout left of it.
        _start = _dropout.Active ? tokens.Reserve("user.start", shape.Hidden) : _norm.Output;
        StartGradient = _dropout.Active ? tokens.Reserve("user.start_gradient", shape.Hidden) : _norm.OutputGradient;
        _blocks = new Block[shape.Blocks];
        Slot x = _start;
        Slot dx = StartGradient;
        for (int i = 0; i < _blocks.Length; i++)
        {
            _blocks[i] = new(context, tokens, shape, $"user.blocks.{i}", x, dx, 1 + (2 * i), _sums);
            x = _blocks[i].Output;
            dx = _blocks[i].OutputGradient;
        }

        Output = x;
        OutputGradient = dx;
    }

    /// <summary>[sequences * history, hidden] the vector of the user at each place.</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward.</summary>
    public Slot OutputGradient { get; }

    private Slot StartGradient { get; }

    public void Initialize()
    {
        _norm.Initialize();
        foreach (Block block in _blocks)
            block.Initialize();
    }

    public void Pack()
    {
        foreach (Block block in _blocks)
            block.Pack();
    }

    /// <param name="sequences">Sequences.</param>
    /// <param name="lengths">[sequences] rows that hold an item, in device memory.</param>
    /// <param name="step">The step, for dropout; below 0 nothing is dropped.</param>
    public void Forward(long sequences, int* lengths, long step)
    {
        long rows = sequences * _history;
        _norm.Forward(rows);
        if (_dropout.Active)
            _sums.Copy(rows, _dropout.Forward(rows, step), _start);
        foreach (Block block in _blocks)
            block.Forward(sequences, lengths, step);
    }

    /// <summary>From <see cref="OutputGradient"/> to the gradients of the parameters and of the input.</summary>
    public void Backward(long sequences, Slot dx)
    {
        for (int i = _blocks.Length - 1; i >= 0; i--)
            _blocks[i].Backward(sequences);
        long rows = sequences * _history;
        if (_dropout.Active)
            _dropout.Backward(rows, StartGradient, _norm.OutputGradient);
        _norm.Backward(rows, dx);
    }

    private sealed class Block
    {
        private readonly int _history;
        private readonly SlotSums _sums;
        private readonly Slot _x;
        private readonly Slot _dx;
        private readonly SelfAttention _attention;
        private readonly Residual _afterAttention;
        private readonly Linear _first;
        private readonly Linear _second;
        private readonly Residual _afterSecond;
        private readonly Slot _hidden;
        private readonly Slot _hiddenGradient;
        private readonly Slot _branchGradient;

        public Block(LayerContext context, LayerContext tokens, XsmoeShape shape, string name, Slot x, Slot dx, int place, SlotSums sums)
        {
            _history = shape.History;
            _sums = sums;
            _x = x;
            _dx = dx;
            _attention = new(context, new() { Name = $"{name}.attention", X = x, Tokens = shape.History, Heads = shape.Heads, Causal = true, Bias = shape.AttentionBias });
            _afterAttention = new(tokens, $"{name}.attention_norm", _attention.Output, shape, place, sums);
            _hidden = tokens.Reserve($"{name}.hidden", shape.FeedForward);
            _hiddenGradient = tokens.Reserve($"{name}.hidden_gradient", shape.FeedForward);
            Slot branch = tokens.Reserve($"{name}.branch", shape.Hidden);
            _branchGradient = tokens.Reserve($"{name}.branch_gradient", shape.Hidden);
            _first = Product(tokens, $"{name}.feed_forward.0", _afterAttention.Output, _hidden, ActivationKind.Relu);
            _second = Product(tokens, $"{name}.feed_forward.1", _hidden, branch, ActivationKind.None);
            _afterSecond = new(tokens, $"{name}.feed_forward_norm", branch, shape, place + 1, sums);
        }

        public Slot Output => _afterSecond.Output;

        public Slot OutputGradient => _afterSecond.OutputGradient;

        public void Initialize()
        {
            _afterAttention.Initialize();
            _afterSecond.Initialize();
        }

        public void Pack()
        {
            _attention.Pack();
            _first.Pack();
            _second.Pack();
        }

        public void Forward(long sequences, int* lengths, long step)
        {
            long rows = sequences * _history;
            _attention.Forward(sequences, lengths);
            _afterAttention.Forward(rows, _x, step);
            _first.Forward(rows);
            _second.Forward(rows);
            _afterSecond.Forward(rows, _afterAttention.Output, step);
        }

        public void Backward(long sequences)
        {
            long rows = sequences * _history;
            Slot middle = _afterAttention.OutputGradient;
            _afterSecond.Backward(rows, middle, _branchGradient);
            _second.BackwardWeights(rows, _branchGradient);
            _second.BackwardInput(rows, _branchGradient, new(_hiddenGradient, Accumulate: false, Below: _hidden, ActivationKind.Relu));
            _first.BackwardWeights(rows, _hiddenGradient);
            _first.BackwardInput(rows, _hiddenGradient, new(middle, Accumulate: true, Below: null, ActivationKind.None));
            _afterAttention.Backward(rows, _dx, _attention.OutputGradient);
            _attention.Backward(sequences, _dx, accumulate: true);
        }

        private static Linear Product(LayerContext tokens, string name, Slot x, Slot y, ActivationKind activation) => new(tokens, new()
        {
            Groups = 1,
            N = y.Columns,
            K = x.Columns,
            Input = GroupInput.Shared,
            X = x,
            Y = y,
            Weight = tokens.Parameters.Add($"{name}.weight", ParameterKind.Weight, y.Columns, x.Columns),
            Bias = tokens.Parameters.Add($"{name}.bias", ParameterKind.Bias, y.Columns),
            Activation = activation,
        });
    }

    /// <summary>LN(x + dropout(branch)).</summary>
    private sealed class Residual
    {
        private readonly SlotSums _sums;
        private readonly Dropout _dropout;
        private readonly Slot _sum;
        private readonly Slot _branch;
        private readonly LayerNorm _norm;

        public Residual(LayerContext tokens, string name, Slot branch, XsmoeShape shape, int place, SlotSums sums)
        {
            _sums = sums;
            _branch = branch;
            _dropout = new(tokens, name, branch, shape.Dropout, shape.Seed, place);
            _sum = tokens.Reserve($"{name}.sum", shape.Hidden);
            _norm = new(tokens, name, _sum, epsilon: Epsilon);
        }

        public Slot Output => _norm.Output;

        public Slot OutputGradient => _norm.OutputGradient;

        public void Initialize() => _norm.Initialize();

        public void Forward(long rows, Slot x, long step)
        {
            _sums.Copy(rows, _dropout.Forward(rows, step), _sum);
            _sums.Add(rows, x, _sum);
            _norm.Forward(rows);
        }

        /// <summary>Writes the gradient of x, which is the sum's, and that of the branch.</summary>
        public void Backward(long rows, Slot dx, Slot branchGradient)
        {
            _norm.Backward(rows, dx);
            if (_dropout.Active)
                _dropout.Backward(rows, dx, branchGradient);
            else
                _sums.Copy(rows, dx, branchGradient);
        }
    }
}
