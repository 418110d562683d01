using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Graphs;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// Macro graph of experts (MGOE, KDD 2026): each task, and the shared part, aggregates the macro neighbours of user and item with macro tables of its own;
/// its experts read the feature row and these; every task's gate mixes the experts of all tasks; the mixtures attend to each other, and a tower
/// reads its mixture and its neighbours of first order. Equations: docs/models/mgoe.md.
/// </summary>
internal sealed unsafe class MgoeTrunk : Trunk
{
    private readonly LayerContext _context;
    private readonly InputBlock _input;
    private readonly int _tasks;
    private readonly int _tables;
    private readonly int _units;
    private readonly int _hidden;
    private long _unitWidth;
    private readonly MacroWeightTables? _weights;
    private readonly MacroAggregator[] _sides = [];
    private readonly List<MacroSet> _sets = [];
    private readonly Slot _unitInputs;
    private readonly Slot? _unitGradients;
    private readonly GroupedMlp _experts;
    private readonly UnitGates _gates;
    private readonly Combine _mixtures;
    private readonly TaskCoupling? _coupling;
    private readonly long[] _sideColumns = [];
    private readonly Dictionary<Slot, Slot[]> _targetParts = [];
    private readonly List<Move> _toUnits = [];
    private readonly List<Move> _toCoupling = [];
    private readonly List<Move> _toTowers = [];
    private readonly List<Move> _fromTowers = [];
    private readonly List<Move> _fromCoupling = [];
    private readonly List<Move> _fromUnits = [];
    private readonly List<Slot> _rowGradients = [];
    private nint _one;

    public MgoeTrunk(LayerContext context, InputBlock input, DeviceBatch batch, ModelDescription description, BatchLayout layout)
    {
        ArchitectureDescription architecture = description.Architecture;
        MacroDescription macro = architecture.Macro!;
        ExpertsDescription experts = architecture.Experts!;
        _context = context;
        _input = input;
        _tasks = description.Tasks.Count;
        _units = _tasks + 1;
        _tables = macro.Tables switch
        {
            MacroTables.PerTask => _units,
            MacroTables.Shared => 1,
            _ => 0,
        };
        _unitWidth = input.Output.Columns;
        if (_tables > 0)
        {
            int[] inputs = [InputOf(macro.User!), InputOf(macro.Item!)];
            int[] nodes = [macro.UserNodes + 1, macro.ItemNodes + 1];
            _weights = new(context, batch, layout, inputs, nodes);
            _sides = [Aggregator(GraphSide.User, macro.Attention, inputs[0], nodes[0]), Aggregator(GraphSide.Item, macro.Attention, inputs[1], nodes[1])];
            _sideColumns = [.. inputs.Select(input.Embedding.Column)];
            // In the order of a unit's row: neighbours of the user of first and second order, then of the item.
            AddSet(GraphSide.Item, output: 0, summary: true);
            AddSet(GraphSide.User, output: 1, summary: false);
            AddSet(GraphSide.User, output: 0, summary: true);
            AddSet(GraphSide.Item, output: 1, summary: false);
        }

        _hidden = experts.Layers[^1];
        Width = _hidden + (int)_sets.Where(set => set.Summary >= 0).Sum(set => set.Width);
        _unitInputs = context.ReserveExact("units", _unitWidth * _units);
        int own = experts.PerTask ?? 1;
        int[] perUnit = [.. Enumerable.Repeat(own, _tasks), experts.Shared!.Value];
        _experts = new(context, new()
        {
            Name = "experts",
            Groups = perUnit.Sum(),
            Widths = experts.Layers,
            Activation = architecture.Activation,
            X = _unitInputs,
            InputWidth = _unitWidth,
            Input = GroupInput.Strided,
            GroupsPerInput = perUnit,
        });
        _gates = new(context, new()
        {
            Name = "gate",
            Gates = _tasks,
            Experts = perUnit.Sum(),
            X = _unitInputs,
            InputWidth = _unitWidth,
            OwnInputs = true,
            Bias = architecture.Gate.Bias,
        });
        _mixtures = new(context, new()
        {
            Name = "mixtures",
            Sums = _tasks,
            Choices = perUnit.Sum(),
            Weights = _gates.Output,
            WeightsGradient = _gates.OutputGradient,
            Experts = _experts,
            Activation = architecture.Activation,
        });
        _coupling = macro.Coupling ? new(context, "coupling", _tasks, _hidden) : null;
        Representation = context.Reserve("representation", (long)Width * _tasks);
        context.Activations.Reserve("mgoe.one", sizeof(float), p => _one = p);
        context.OnBind(() => context.Stream.CopyToDevice<float>([1f], _one));
        PlanForward();
        if (!context.Training)
            return;
        RepresentationGradient = context.Reserve("representation.gradient", (long)Width * _tasks);
        _unitGradients = context.ReserveExact("units.gradient", _unitWidth * _units);
        PlanBackward();

        int InputOf(string feature) => layout.Sparse.ToList().FindIndex(sparse => sparse.Name == feature);

        MacroAggregator Aggregator(GraphSide side, MacroAttention attention, int sparse, int nodes) => new(context, new()
        {
            Name = $"macro.{side.ToString().ToLowerInvariant()}",
            Nodes = nodes,
            Tables = _tables,
            Target = input.Output.Slice(input.Embedding.Column(sparse), layout.Sparse[sparse].Dimension),
            // Of the nodes of this side: neighbours of first order of the other side's sample, and of second order of this side's.
            Weights = [_weights!.First(MacroGraph.Other(side)), _weights.Second(side)],
            Attention = attention,
        });

        void AddSet(GraphSide side, int output, bool summary)
        {
            long width = _sides[(int)side].Outputs[output].Columns / _tables;
            _sets.Add(new(side, output, width, _unitWidth, summary ? _sets.Where(set => set.Summary >= 0).Sum(set => set.Width) : -1));
            _unitWidth += width;
        }
    }

    public override Slot Representation { get; }

    public override Slot RepresentationGradient { get; } = null!;

    public override Slot? Factor => null;

    public override ActivationKind Activation => ActivationKind.None;

    public override bool Shared => false;

    public override int Width { get; }

    public override int GateCount => _gates.Gates;

    public override int ExpertCount => _gates.Experts;

    public override ReadOnlySpan<double> GateSums(long rows) => _gates.ProbabilitySums(rows);

    public override bool SplitsInputGradient => true;

    // With coupling every tower reads every mixture.
    public override IEnumerable<TaskParameters> OwnOfTasks => _coupling == null ? [new("gate.")] : [];

    /// <summary>The macro weights; null in a model without graph.</summary>
    public MacroWeightTables? MacroWeights => _weights;

    public override void Initialize() => _weights?.Initialize();

    public override void Pack()
    {
        foreach (MacroAggregator side in _sides)
            side.Pack();
        _experts.Pack();
        _gates.Pack();
        _coupling?.Pack();
    }

    public override void Forward(long rows, long step)
    {
        _weights?.Forward(rows);
        foreach (MacroAggregator side in _sides)
            side.Forward(rows);
        Run(rows, _toUnits, taskWeights: null);
        _experts.Forward(rows);
        _gates.Forward(rows);
        _mixtures.Forward(rows);
        Run(rows, _toCoupling, taskWeights: null);
        _coupling?.Forward(rows);
        Run(rows, _toTowers, taskWeights: null);
    }

    public override void Backward(long rows, long step, float* taskWeights) => Backward(rows, taskWeights, weights: true, _input.OutputGradient);

    public override void BackwardParameters(long rows, long step, float* taskWeights) => Backward(rows, taskWeights, weights: true, target: null);

    public override void BackwardInputOf(long rows, long step, float* taskWeights, Slot target) => Backward(rows, taskWeights, weights: false, target);

    private void Backward(long rows, float* taskWeights, bool weights, Slot? target)
    {
        Run(rows, _fromTowers, taskWeights);
        _coupling?.Backward(rows, weights);
        Run(rows, _fromCoupling, taskWeights: null);
        _mixtures.Backward(rows, taskScale: null);
        _experts.Backward(rows, weights);
        _gates.Backward(rows, weights);
        _experts.BackwardInput(rows, new(_unitGradients!, Accumulate: false, Below: null, ActivationKind.None));
        _gates.BackwardInput(rows, new(_unitGradients!, Accumulate: true, Below: null, ActivationKind.None));
        for (int unit = 0; unit < _units && target != null; unit++)
            BalanceOperations.Combine(_context, _rowGradients[unit], 0, 1, rows, (float*)_one, target, accumulate: unit > 0);
        Run(rows, _fromUnits, taskWeights);
        for (int side = 0; side < _sides.Length; side++)
            _sides[side].Backward(rows, weights, target == null ? null : TargetPart(target, side));
    }

    private void Run(long rows, List<Move> moves, float* taskWeights)
    {
        foreach (Move move in moves)
        {
            float* factor = taskWeights == null || move.Task < 0 ? (float*)_one : taskWeights + move.Task;
            BalanceOperations.Combine(_context, move.From, 0, 1, rows, factor, move.To, move.Accumulate);
        }
    }

    /// <summary>The columns of a gradient of the feature row that belong to the embedding of a side; made once for each gradient.</summary>
    private Slot TargetPart(Slot target, int side)
    {
        if (_targetParts.TryGetValue(target, out Slot[]? parts))
            return parts[side];
        parts = new Slot[_sides.Length];
        for (int i = 0; i < parts.Length; i++)
            parts[i] = target.Slice(_sideColumns[i], _sides[i].Target.Columns);
        _targetParts.Add(target, parts);
        return parts[side];
    }

    private void PlanForward()
    {
        for (int unit = 0; unit < _units; unit++)
        {
            _toUnits.Add(new(_input.Output, Unit(_unitInputs, unit, 0, _input.Output.Columns)));
            foreach (MacroSet set in _sets)
                _toUnits.Add(new(Part(_sides[(int)set.Side].Outputs[set.Output], set, unit), Unit(_unitInputs, unit, set.Column, set.Width)));
        }

        for (int task = 0; task < _tasks; task++)
        {
            _toTowers.Add(new(Mixture(_mixtures.Output, task), Hidden(Representation, task)));
            if (_coupling != null)
            {
                _toCoupling.Add(new(Mixture(_mixtures.Output, task), OfTask(_coupling.Input, task)));
                _toTowers.Add(new(OfTask(_coupling.Output, task), Hidden(Representation, task), Accumulate: true));
            }

            foreach (MacroSet set in _sets.Where(set => set.Summary >= 0))
                _toTowers.Add(new(Part(_sides[(int)set.Side].Outputs[set.Output], set, task), Summary(Representation, task, set)));
        }
    }

    private void PlanBackward()
    {
        for (int task = 0; task < _tasks; task++)
        {
            Slot mixture = Mixture(_mixtures.OutputGradient, task);
            Slot hidden = _coupling == null ? mixture : OfTask(_coupling.InputGradient, task);
            _fromTowers.Add(new(Hidden(RepresentationGradient, task), hidden, Task: task));
            if (_coupling != null)
                _fromCoupling.Add(new(hidden, mixture));
        }

        for (int unit = 0; unit < _units; unit++)
        {
            _rowGradients.Add(Unit(_unitGradients!, unit, 0, _input.Output.Columns));
            foreach (MacroSet set in _sets)
            {
                Slot table = Part(_sides[(int)set.Side].OutputGradients[set.Output], set, unit);
                _fromUnits.Add(new(Unit(_unitGradients!, unit, set.Column, set.Width), table, Accumulate: unit > 0 && _tables == 1));
                if (set.Summary >= 0 && unit < _tasks)
                    _fromUnits.Add(new(Summary(RepresentationGradient, unit, set), table, unit, Accumulate: true));
            }
        }
    }

    /// <summary>A unit's table in the outputs of an aggregator.</summary>
    private Slot Part(Slot outputs, MacroSet set, int unit) => outputs.Slice((_tables == 1 ? 0 : unit) * set.Width, set.Width);

    private Slot Unit(Slot units, int unit, long column, long width) => units.Slice((unit * _unitWidth) + column, width);

    private Slot Mixture(Slot mixtures, int task) => mixtures.Slice((long)task * _hidden, _hidden);

    private Slot Hidden(Slot representation, int task) => representation.Slice((long)task * Width, _hidden);

    private Slot Summary(Slot representation, int task, MacroSet set) => representation.Slice(((long)task * Width) + _hidden + set.Summary, set.Width);

    /// <summary>[rows, width] of a task in [rows * tasks, width].</summary>
    private Slot OfTask(Slot rowsOfTasks, int task)
    {
        long stride = rowsOfTasks.RowStride * _tasks;
        return rowsOfTasks.Reshape(stride, stride).Slice(task * rowsOfTasks.RowStride, _hidden);
    }

    /// <summary>A copy or sum of columns.</summary>
    /// <param name="From">What is read.</param>
    /// <param name="To">What is written.</param>
    /// <param name="Task">The task whose weight is the factor; -1 = 1.</param>
    /// <param name="Accumulate">Whether it is added.</param>
    private sealed record Move(Slot From, Slot To, int Task = -1, bool Accumulate = false);

    /// <summary>An aggregate of the samples' neighbours: which macro nodes, which of their weights, and where it goes.</summary>
    /// <param name="Side">The macro nodes.</param>
    /// <param name="Output">Output of their aggregator.</param>
    /// <param name="Width">Its width.</param>
    /// <param name="Column">Its first column in a unit's row.</param>
    /// <param name="Summary">Its first column behind the mixture in what a tower reads; -1 = towers do not read it.</param>
    private sealed record MacroSet(GraphSide Side, int Output, long Width, long Column, long Summary);
}
