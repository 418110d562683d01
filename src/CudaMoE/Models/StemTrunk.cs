using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// STEM-Net (Su et al., AAAI 2024): the feature row holds a part for each task's tables and one for the shared ones. Own experts of task t read part t, shared
/// experts the shared part; the gate of task t reads the sum of the two and mixes the experts of all. In the backward the mixture of task t gives gradients to
/// its own and the shared experts only, so that its loss never reaches another task's experts and tables ("all forward, task-specific backward").
/// </summary>
internal sealed unsafe class StemTrunk : Trunk
{
    private readonly InputBlock _input;
    private readonly SlotSums _sums;
    private readonly int _tasks;
    private readonly int _own;
    private readonly int _shared;
    private readonly long _unitWidth;
    private readonly GroupedMlp _experts;
    private readonly Slot _gateInputs;
    private readonly Slot? _gateInputGradients;
    private readonly UnitGates _gates;
    private readonly Slot? _open;
    private readonly Combine _mixtures;

    public StemTrunk(LayerContext context, InputBlock input, ArchitectureDescription architecture, int tasks)
    {
        _input = input;
        _sums = new(context);
        _tasks = tasks;
        ExpertsDescription experts = architecture.Experts!;
        _own = experts.PerTask ?? 1;
        _shared = experts.Shared!.Value;
        int count = (tasks * _own) + _shared;
        _unitWidth = input.Embedding.UnitWidth;
        _experts = new(context, new()
        {
            Name = "experts",
            Groups = count,
            Widths = experts.Layers,
            Activation = architecture.Activation,
            X = input.Output,
            InputWidth = _unitWidth,
            Input = GroupInput.Strided,
            GroupsPerInput = [.. Enumerable.Repeat(_own, tasks), _shared],
        });
        _gateInputs = context.ReserveExact("gate.inputs", _unitWidth * tasks);
        _gates = new(context, new()
        {
            Name = "gate",
            Gates = tasks,
            Experts = count,
            X = _gateInputs,
            InputWidth = _unitWidth,
            OwnInputs = true,
            Bias = architecture.Gate.Bias,
        });
        // What is never written of it stays 0: the experts of other tasks.
        _open = context.Training ? context.ReserveExact("gate.open", (long)tasks * count) : null;
        _gateInputGradients = context.Training ? context.ReserveExact("gate.inputs.gradient", _unitWidth * tasks) : null;
        _mixtures = new(context, new()
        {
            Name = "mixtures",
            Sums = tasks,
            Choices = count,
            Weights = _gates.Output,
            BackwardWeights = _open,
            WeightsGradient = _gates.OutputGradient,
            Experts = _experts,
            Activation = architecture.Activation,
        });
    }

    public override Slot Representation => _mixtures.Output;

    public override Slot RepresentationGradient => _mixtures.OutputGradient;

    public override Slot? Factor => null;

    public override ActivationKind Activation => ActivationKind.None;

    public override bool Shared => false;

    public override int Width => _experts.OutputWidth;

    public override int GateCount => _gates.Gates;

    public override int ExpertCount => _gates.Experts;

    public override ReadOnlySpan<double> GateSums(long rows) => _gates.ProbabilitySums(rows);

    public override bool SplitsInputGradient => true;

    public override IEnumerable<TaskParameters> OwnOfTasks => [new("gate."), new("experts.", _tasks * _own, (_tasks * _own) + _shared)];

    /// <summary>Names of the units that have tables: the tasks, then the shared one.</summary>
    public static IReadOnlyList<string> Units(ModelDescription description) => [.. description.Tasks.Select(task => task.Name), StemRules.SharedUnit];

    public override void Pack()
    {
        _experts.Pack();
        _gates.Pack();
    }

    public override void Forward(long rows, long step)
    {
        for (int task = 0; task < _tasks; task++)
        {
            Slot sum = Unit(_gateInputs, task);
            _sums.Copy(rows, Unit(_input.Output, task), sum);
            _sums.Add(rows, Unit(_input.Output, _tasks), sum);
        }

        _experts.Forward(rows);
        _gates.Forward(rows);
        _mixtures.Forward(rows);
    }

    public override void Backward(long rows, long step, float* taskWeights) => Backward(rows, taskWeights, weights: true, _input.OutputGradient);

    public override void BackwardParameters(long rows, long step, float* taskWeights) => Backward(rows, taskWeights, weights: true, target: null);

    public override void BackwardInputOf(long rows, long step, float* taskWeights, Slot target) => Backward(rows, taskWeights, weights: false, target);

    private void Backward(long rows, float* taskWeights, bool weights, Slot? target)
    {
        int count = _gates.Experts;
        for (int task = 0; task < _tasks; task++)
        {
            Open(rows, ((long)task * count) + (task * _own), _own);
            Open(rows, ((long)task * count) + (_tasks * _own), _shared);
        }

        _mixtures.Backward(rows, taskWeights);
        _experts.Backward(rows, weights);
        _gates.Backward(rows, weights);
        if (target == null)
            return;
        _experts.BackwardInput(rows, new(target, Accumulate: false, Below: null, ActivationKind.None));
        _gates.BackwardInput(rows, new(_gateInputGradients!, Accumulate: false, Below: null, ActivationKind.None));
        for (int task = 0; task < _tasks; task++)
        {
            _sums.Add(rows, Unit(_gateInputGradients!, task), Unit(target, task));
            _sums.Add(rows, Unit(_gateInputGradients!, task), Unit(target, _tasks));
        }
    }

    /// <summary>Lets the gradient through to some experts of a gate.</summary>
    private void Open(long rows, long column, int experts) => _sums.Copy(rows, _gates.Output.Slice(column, experts), _open!.Slice(column, experts));

    private Slot Unit(Slot row, int unit) => row.Slice(unit * _unitWidth, _unitWidth);
}
