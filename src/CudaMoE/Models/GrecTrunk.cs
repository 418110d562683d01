using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// The generalist recommender (Yang et al., CIKM 2023, and its released code): a token from each kind of feature, a task token, a parallel transformer block that mixes them, and
/// a sparse mixture of experts with residual connection (Fedus et al. 2021). A sample has one sentence of tokens for each task; the released model has one task a row.
/// <code>f = block(tokens)   u = rms(f)   p, e = route(u or what the level says)   y = f + sum_k p_k expert_{e_k}(u)</code>
/// A task's tower reads the tokens of its sentence side by side.
/// </summary>
internal sealed unsafe class GrecTrunk : Trunk
{
    private readonly LayerContext _context;
    private readonly InputBlock _input;
    private readonly GateDescription _description;
    private readonly List<GrecHead> _heads = [];
    private readonly List<ConstantCombine> _places = [];
    private readonly GrecTasks? _tasks;
    private readonly ConstantCombine? _taskPlace;
    private readonly SlotSums _sums;
    private readonly ParallelBlock _fusion;
    private readonly RmsNorm _norm;
    private readonly GrecRouter _router;
    private readonly Gate _gate;
    private readonly Routing _routing;
    private readonly TokenCapacity? _capacity;
    private readonly GrecOverflow? _overflow;
    private readonly GroupedMlp _experts;
    private readonly Combine _combine;
    private readonly Slot? _slotGradient;
    private readonly SlotSum? _slotSum;
    private readonly Slot? _gradient;
    private readonly Slot? _scratch;
    private readonly Slot? _sentenceGradient;
    private readonly int _width;
    private readonly int _sentences;
    private readonly int _tokens;
    private readonly double[] _gateSums;
    private readonly long[] _dropped;

    public GrecTrunk(LayerContext context, InputBlock input, ModelDescription description, BatchLayout layout)
    {
        _context = context;
        _input = input;
        ArchitectureDescription architecture = description.Architecture;
        GrecDescription grec = architecture.Grec!;
        _description = architecture.Gate;
        _width = grec.Width;
        bool withTasks = grec.Routing != RoutingLevel.Token;
        _sentences = withTasks ? description.Tasks.Count : 1;
        _sums = new(context);
        new GrecHeads(context, _sums, input, description, layout).AddTo(_heads);
        _tokens = _heads.Count + (withTasks ? 1 : 0);
        LayerContext sentences = context.Times(_sentences), tokens = sentences.Times(_tokens);
        long row = (long)_tokens * _width, all = _sentences * row;

        Slot x = tokens.ReserveExact("tokens", _width);
        Slot samples = x.Reshape(all, all);
        foreach (GrecHead head in _heads)
        {
            _places.Add(new(context, new()
            {
                Name = $"tokens.{_places.Count}",
                X = head.Output,
                Y = samples.Slice(_places.Count * _width, all - (_places.Count * _width)),
                Width = _width,
                Copies = _sentences,
                CopyStride = row,
                Activation = head.Activation,
                Preactivation = head.Preactivation,
            }));
        }

        if (withTasks)
        {
            _tasks = new(context, "task_tokens.weight", _sentences, _width);
            Slot last = x.Reshape(row, row).Slice(row - _width, _width);
            _taskPlace = new(sentences, new() { Name = "tokens.task", X = _tasks.Output.Reshape(_width, _width), Y = last, Width = _width });
        }

        _fusion = new(sentences, _sums, new()
        {
            Name = "fusion",
            X = x,
            Tokens = _tokens,
            Heads = 1,
            HeadWidth = Math.Min(_width, 256),
            FeedForward = grec.FeedForward ?? 4 * _width,
            Residual = false,
        });
        _norm = new(tokens, "moe.norm", _fusion.Output);
        _router = new(sentences, context, _sums, grec.Routing, _fusion.Output, _norm.Output, _tokens, _sentences, _tasks);
        int experts = architecture.Experts!.Count!.Value;
        _gate = new(tokens, architecture.Gate, 1, experts, _router.Input, description.Training.Seed);
        _routing = new(tokens, architecture.Gate, experts, 1, () => _gate.ChosenPointer, () => _gate.WeightsPointer);
        if (grec.TokenCapacity is { } capacity)
            _capacity = new(tokens, _routing, experts, () => _gate.ChosenPointer, _tokens, capacity, listDropped: grec.Overflow == CapacityOverflow.Pass);
        if (grec.Overflow == CapacityOverflow.Pass)
            _overflow = new(tokens, _sums, _capacity!, _gate, _norm);
        _experts = new(tokens, new()
        {
            Name = "experts",
            Groups = experts,
            Widths = [.. architecture.Experts.Layers, _width],
            Activation = architecture.Activation,
            ActivateLast = false,
            Bias = false,
            X = _norm.Output,
            InputWidth = _width,
            Input = GroupInput.Routed,
            Routing = _routing,
        });
        _combine = new(tokens, new()
        {
            Name = "combine",
            Sums = 1,
            Choices = _gate.Choices,
            Weights = _gate.Output,
            WeightsGradient = _gate.OutputGradient,
            Experts = _experts,
            Routing = _routing,
            Activation = ActivationKind.None,
        });
        Representation = context.ReserveExact("representation", all);
        _gateSums = new double[experts];
        _dropped = new long[experts];
        if (!context.Training)
            return;
        RepresentationGradient = context.ReserveExact("representation.gradient", all);
        _gradient = tokens.ReserveExact("moe.gradient", _width);
        _scratch = tokens.ReserveExact("moe.scratch", _width);
        _sentenceGradient = tokens.ReserveExact("tokens.gradient", _width);
        _slotGradient = Slot.Reserve(context.Activations, "experts.input_gradient", _routing.MaxSlots, _width);
        _slotSum = new(tokens, _routing, _slotGradient);
    }

    public override Slot Representation { get; }

    public override Slot RepresentationGradient { get; } = null!;

    public override Slot? Factor => null;

    public override ActivationKind Activation => ActivationKind.None;

    public override bool Shared => _tasks == null;

    public override int Width => _tokens * _width;

    public override Gate Gate => _gate;

    public override int GateRowsPerSample => _sentences * _tokens;

    public override Routing Routing => _routing;

    public override bool SplitsInputGradient => true;

    /// <summary>[1, experts] sums over the samples of the mean over a sample's tokens.</summary>
    public override ReadOnlySpan<double> GateSums(long rows)
    {
        ReadOnlySpan<double> sums = _gate.ProbabilitySums;
        for (int e = 0; e < _gateSums.Length; e++)
            _gateSums[e] = sums[e] / GateRowsPerSample;
        return _gateSums;
    }

    public override ReadOnlySpan<long> DroppedPairs
    {
        get
        {
            if (_capacity == null)
                return _routing.Dropped;
            ReadOnlySpan<long> routed = _routing.Dropped, limited = _capacity.Dropped;
            for (int e = 0; e < _dropped.Length; e++)
                _dropped[e] = routed[e] + limited[e];
            return _dropped;
        }
    }

    public override void Initialize()
    {
        foreach (GrecHead head in _heads)
            head.Initialize();
        _fusion.Initialize();
        _norm.Initialize();
    }

    public override void Pack()
    {
        foreach (GrecHead head in _heads)
            head.Pack();
        _tasks?.Pack();
        _fusion.Pack();
        _router.Pack();
        _gate.Pack();
        _experts.Pack();
    }

    public override void Forward(long rows, long step)
    {
        long sentences = rows * _sentences, tokens = sentences * _tokens;
        for (int i = 0; i < _heads.Count; i++)
        {
            _heads[i].Forward(rows);
            _places[i].Forward(rows);
        }

        _tasks?.Forward(rows);
        _taskPlace?.Forward(sentences);
        _fusion.Forward(sentences, null);
        _norm.Forward(tokens);
        _router.Forward(sentences);
        _gate.Forward(tokens, step);
        _routing.Forward(tokens);
        _capacity?.Forward(tokens);
        _experts.Forward(tokens);
        _combine.Forward(tokens);
        Slot representation = Representation.Reshape(_width, _width);
        _sums.Copy(tokens, _fusion.Output, representation);
        _sums.Add(tokens, _combine.Output, representation);
        _overflow?.Forward(tokens, representation);
    }

    public override void Backward(long rows, long step, float* taskWeights)
    {
        TakeGradient(rows, Shared ? null : taskWeights);
        Backward(rows, step, AuxiliaryLosses, _input.OutputGradient);
    }

    public override void BackwardParameters(long rows, long step, float* taskWeights)
    {
        TakeGradient(rows, taskWeights);
        Backward(rows, step, auxiliary: true, row: null);
    }

    public override void BackwardInputOf(long rows, long step, float* taskWeights, Slot target)
    {
        TakeGradient(rows, taskWeights);
        Backward(rows, step, auxiliary: false, target);
    }

    public override void BackwardAuxiliary(LayerContext context, long rows, long step, Slot target)
    {
        context.Stream.Fill(_gradient!.Pointer, 0, rows * GateRowsPerSample * _width * sizeof(float));
        Backward(rows, step, auxiliary: true, target);
    }

    /// <summary>The gradient of the representation, each task's part times its weight, to where the backward works on it; the representation's own stays.</summary>
    private void TakeGradient(long rows, float* taskWeights)
    {
        Slot from = RepresentationGradient, to = _gradient!.Reshape(from.Columns, from.RowStride);
        if (taskWeights == null)
        {
            _sums.Copy(rows, from, to);
            return;
        }

        for (int t = 0; t < _sentences; t++)
            BalanceOperations.Combine(_context, from.Slice((long)t * Width, Width), 0, 1, rows, taskWeights + t, to.Slice((long)t * Width, Width), accumulate: false);
    }

    private void Backward(long rows, long step, bool auxiliary, Slot? row)
    {
        long sentences = rows * _sentences, tokens = sentences * _tokens;
        _sums.Copy(tokens, _gradient!, _combine.OutputGradient);
        // Nothing writes the gradients of slots that the capacity took away after the routing.
        if (_capacity != null)
            _context.Stream.Fill(_experts.OutputGradient.Pointer, 0, _routing.Slots(tokens) * _experts.OutputGradient.RowStride * sizeof(float));
        _combine.Backward(tokens, taskScale: null);
        _experts.Backward(tokens);
        _experts.BackwardInput(tokens, new(_slotGradient!, Accumulate: false, Below: null, ActivationKind.None));
        _slotSum!.Run(tokens, _norm.OutputGradient);
        _overflow?.Backward(tokens, _gradient!);
        _gate.BackwardWeights(tokens, step, weights: true, auxiliary);
        Slot routerGradient = _router.InputGradient ?? _norm.OutputGradient;
        _gate.BackwardInput(tokens, new(routerGradient, Accumulate: _router.InputGradient == null, Below: null, ActivationKind.None));

        // The sentence's gradient: through the norm, by the residual connection, and by what the router read.
        _norm.Backward(tokens, _fusion.OutputGradient);
        _sums.Add(tokens, _gradient!, _fusion.OutputGradient);
        if (_tasks != null)
            _context.Stream.Fill(_tasks.OutputGradient.Pointer, 0, sentences * _width * sizeof(float));
        _router.Backward(sentences, _fusion.OutputGradient, _scratch!);
        _fusion.Backward(sentences, _sentenceGradient!);
        BackwardHeads(rows, row);
    }

    private void BackwardHeads(long rows, Slot? row)
    {
        long sentence = Width, all = _sentences * sentence;
        if (_tasks != null)
        {
            Slot last = _sentenceGradient!.Reshape(sentence, sentence).Slice(sentence - _width, _width);
            _sums.Add(rows * _sentences, last, _tasks.OutputGradient.Reshape(_width, _width));
            _tasks.Backward(rows);
        }

        for (int i = 0; i < _heads.Count; i++)
        {
            Slot place = _sentenceGradient!.Reshape(all, all).Slice(i * _width, all - (i * _width));
            _places[i].Backward(rows, place, _heads[i].OutputGradient);
            _heads[i].Backward(rows, row);
        }
    }
}
