using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// One level of a <see cref="FusionTrunk"/>: experts, gates and their sum. The experts of all units are one grouped product a layer (one for each
/// number of experts that neighbouring units have, above the first level), the gates another, and gate weights, residual weights and sum one pass.
/// </summary>
internal sealed unsafe class FusionLevel
{
    private readonly GroupedMlp _experts;
    private readonly UnitGates? _gates;
    private readonly ResidualWeights? _residual;
    private readonly Combine _combine;
    private readonly bool _first;
    private readonly bool _ownInputs;

    /// <param name="context">The context.</param>
    /// <param name="plan">What the level is.</param>
    /// <param name="index">Its number, from 0: part of the parameters' names.</param>
    /// <param name="trunkInput">[rows, width] the trunk's input.</param>
    /// <param name="below">The level below; null = the first.</param>
    /// <param name="activation">Of the experts.</param>
    public FusionLevel(LayerContext context, FusionLevelPlan plan, int index, Slot trunkInput, FusionLevel? below, ActivationKind activation)
    {
        string name = $"levels.{index}";
        Slot x = below?.Output ?? trunkInput;
        _first = below == null;
        _ownInputs = !_first && plan.GateInput == GateInput.Unit;
        Width = plan.Widths[^1];
        _experts = new(context, new()
        {
            Name = $"{name}.experts",
            Groups = plan.Experts,
            Widths = plan.Widths,
            Activation = activation,
            X = x,
            InputWidth = below?.Width ?? x.Columns,
            Input = _first ? GroupInput.Shared : GroupInput.Strided,
            GroupsPerInput = _first ? null : plan.Units,
            SpreadRows = true,
        });
        if (plan.Gated)
        {
            _gates = new(context, new()
            {
                Name = $"{name}.gate",
                Gates = plan.Outputs,
                Experts = plan.Experts,
                X = _ownInputs ? x : trunkInput,
                InputWidth = _ownInputs ? below!.Width : trunkInput.Columns,
                OwnInputs = _ownInputs,
                Visible = plan.Visible,
                Bias = plan.GateBias,
            });
        }

        _residual = (plan.Gated, plan.Native) switch
        {
            (false, _) => new StitchWeights(context, $"{name}.stitch.weight", plan.Outputs, plan.OwnWeight),
            (_, NativeResidual.None) => null,
            _ => new NativeWeights(context, name, plan.Units, plan.TaskUnits, plan.Outputs, trained: plan.Native == NativeResidual.Learned),
        };
        _combine = new(context, new()
        {
            Name = $"{name}.fusion",
            Sums = plan.Outputs,
            Choices = plan.Experts,
            // Without gates their weights are zeros, which is what memory holds from the start.
            Weights = _gates?.Output ?? context.ReserveExact($"{name}.no_gates", (long)plan.Outputs * plan.Experts),
            WeightsGradient = _gates?.OutputGradient,
            Experts = _experts,
            Residual = _residual,
            Activation = activation,
        });
    }

    /// <summary>[rows, outputs * width].</summary>
    public Slot Output => _combine.Output;

    /// <summary>Where the gradient of <see cref="Output"/> is to be written.</summary>
    public Slot OutputGradient => _combine.OutputGradient;

    /// <summary>Width of an output.</summary>
    public int Width { get; }

    /// <summary>The gates; null where the weights are the same for all samples.</summary>
    public UnitGates? Gates => _gates;

    public void Initialize() => _residual?.Initialize();

    public void Pack()
    {
        _experts.Pack();
        _gates?.Pack();
        _residual?.Pack();
    }

    public void Forward(long rows)
    {
        _experts.Forward(rows);
        _gates?.Forward(rows);
        _combine.Forward(rows);
    }

    /// <summary>From <see cref="OutputGradient"/>, output g's times <paramref name="scale"/>[g] (null = 1), to all but the gradients of what the level reads.</summary>
    public void Backward(long rows, float* scale, bool weights)
    {
        _combine.Backward(rows, scale);
        if (weights)
            _residual?.StoreGradients();
        _experts.Backward(rows, weights);
        _gates?.Backward(rows, weights);
    }

    /// <summary>The gradient of the outputs of the level below, written to <paramref name="target"/>; not for the first level.</summary>
    public void BackwardBelow(long rows, Slot target)
    {
        _experts.BackwardInput(rows, new(target, Accumulate: false, Below: null, ActivationKind.None));
        if (_ownInputs)
            _gates?.BackwardInput(rows, new(target, Accumulate: true, Below: null, ActivationKind.None));
    }

    /// <summary>
    /// Adds the level's part of the gradient of the trunk's input: of gates that read it, and at the first level, which comes last and applies the
    /// derivative of the activation below, of the experts.
    /// </summary>
    /// <param name="rows">Rows of the batch.</param>
    /// <param name="target">The gradient.</param>
    /// <param name="started">Whether it holds the part of a level above.</param>
    /// <param name="factor">What the derivative of the activation below is taken from; null = there is none.</param>
    /// <param name="activation">That activation.</param>
    /// <returns>Whether it holds something now.</returns>
    public bool BackwardTrunkInput(long rows, Slot target, bool started, Slot? factor, ActivationKind activation)
    {
        if (!_first)
        {
            if (_ownInputs || _gates == null)
                return started;
            _gates.BackwardInput(rows, new(target, started, Below: null, ActivationKind.None));
            return true;
        }

        _experts.BackwardInput(rows, new(target, started, _gates == null ? factor : null, activation));
        _gates?.BackwardInput(rows, new(target, Accumulate: true, factor, activation));
        return true;
    }
}
