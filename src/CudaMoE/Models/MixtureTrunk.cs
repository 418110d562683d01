using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// Multi-gate mixture of experts (Ma et al., KDD 2018, section 4.2): every gate mixes the outputs of the same experts. Dense gates weight all
/// experts; sparse gates choose k of them, and only chosen (sample, expert) pairs are computed.
/// </summary>
internal sealed unsafe class MixtureTrunk : Trunk
{
    private readonly InputBlock _input;
    private readonly Gate _gate;
    private readonly Routing? _routing;
    private readonly GroupedMlp _experts;
    private readonly Combine _combine;
    private readonly Slot? _slotGradient;
    private readonly SlotSum? _slotSum;

    public MixtureTrunk(LayerContext context, InputBlock input, ArchitectureDescription architecture, int tasks, ulong seed)
    {
        _input = input;
        _gate = MakeGate(context, input, architecture, tasks, seed);
        if (_gate.Sparse)
            _routing = new(context, architecture.Gate, _gate.Experts, _gate.Gates, () => _gate.ChosenPointer, () => _gate.WeightsPointer);
        _experts = new(context, PlanExperts(input, architecture, _routing));
        _combine = new(context, new()
        {
            Name = "combine",
            Sums = _gate.Gates,
            Choices = _gate.Choices,
            Weights = _gate.Output,
            WeightsGradient = _gate.OutputGradient,
            Experts = _experts,
            Routing = _routing,
            Activation = architecture.Activation,
        });
        if (context.Training && _routing != null && input.OutputGradient != null)
        {
            _slotGradient = Slot.Reserve(context.Activations, "experts.input_gradient", _routing.MaxSlots, input.Output.Columns);
            _slotSum = new(context, _routing, _slotGradient);
        }
    }

    public override Slot Representation => _combine.Output;

    public override Slot RepresentationGradient => _combine.OutputGradient;

    public override Slot? Factor => null;

    public override ActivationKind Activation => ActivationKind.None;

    public override bool Shared => _gate.Gates == 1;

    public override int Width => _experts.OutputWidth;

    public override Gate Gate => _gate;

    public override Routing? Routing => _routing;

    public override bool SplitsInputGradient => true;

    public override IEnumerable<TaskParameters> OwnOfTasks => Shared ? [] : [new("gate.")];

    /// <summary>A gate a task, or one for all.</summary>
    public static Gate MakeGate(LayerContext context, InputBlock input, ArchitectureDescription architecture, int tasks, ulong seed) =>
        new(context, architecture.Gate, architecture.Gate.Sharing == GateSharing.Shared ? 1 : tasks, architecture.Experts!.Count!.Value, input.Output, seed);

    /// <summary>The experts, on all rows or on the slots of <paramref name="routing"/>.</summary>
    public static GroupedMlpPlan PlanExperts(InputBlock input, ArchitectureDescription architecture, Routing? routing) => new()
    {
        Name = "experts",
        Groups = architecture.Experts!.Count!.Value,
        Widths = architecture.Experts.Layers,
        Activation = architecture.Activation,
        X = input.Output,
        InputWidth = input.Output.Columns,
        Input = routing == null ? GroupInput.Shared : GroupInput.Routed,
        Routing = routing,
        SpreadRows = true,
    };

    public override void Pack()
    {
        _gate.Pack();
        _experts.Pack();
    }

    public override void Forward(long rows, long step)
    {
        _gate.Forward(rows, step);
        _routing?.Forward(rows);
        _experts.Forward(rows);
        _combine.Forward(rows);
    }

    public override void Backward(long rows, long step, float* taskWeights)
    {
        BackwardParameters(rows, step, Shared ? null : taskWeights);
        if (_input.OutputGradient != null)
            BackwardInput(rows, _input.OutputGradient);
    }

    public override void BackwardParameters(long rows, long step, float* taskWeights)
    {
        _combine.Backward(rows, taskWeights);
        _experts.Backward(rows);
        _gate.BackwardWeights(rows, step, auxiliary: AuxiliaryLosses);
    }

    public override void BackwardInputOf(long rows, long step, float* taskWeights, Slot target)
    {
        _combine.Backward(rows, taskWeights);
        _experts.Backward(rows, weights: false);
        _gate.BackwardWeights(rows, step, weights: false, auxiliary: false);
        BackwardInput(rows, target);
    }

    public override void BackwardAuxiliary(LayerContext context, long rows, long step, Slot target)
    {
        context.Stream.Fill(_gate.OutputGradient.Pointer, 0, rows * _gate.OutputGradient.RowStride * sizeof(float));
        _gate.BackwardWeights(rows, step, weights: false, auxiliary: true);
        _gate.BackwardInput(rows, new(target, Accumulate: false, _input.Factor, _input.Activation));
    }

    private void BackwardInput(long rows, Slot target)
    {
        if (_routing == null)
        {
            _experts.BackwardInput(rows, new(target, Accumulate: false, Below: null, ActivationKind.None));
        }
        else
        {
            _experts.BackwardInput(rows, new(_slotGradient!, Accumulate: false, Below: null, ActivationKind.None));
            _slotSum!.Run(rows, target);
        }

        _gate.BackwardInput(rows, new(target, Accumulate: true, _input.Factor, _input.Activation));
    }
}
