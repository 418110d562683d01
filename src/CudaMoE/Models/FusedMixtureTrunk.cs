using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// <see cref="MixtureTrunk"/> for inference on a GPU with bf16 experts of two layers: their mixtures are one operation, for which it has fused kernels.
/// Its bits are those of <see cref="MixtureTrunk"/> where both multiply by the same instruction.
/// </summary>
internal sealed unsafe class FusedMixtureTrunk : Trunk
{
    private readonly Gate _gate;
    private readonly ExpertMix _mix;

    public FusedMixtureTrunk(LayerContext context, InputBlock input, ArchitectureDescription architecture, int tasks, ulong seed)
    {
        _gate = MixtureTrunk.MakeGate(context, input, architecture, tasks, seed);
        _mix = new(context, "combine", MixtureTrunk.PlanExperts(input, architecture, routing: null), _gate);
    }

    public override Slot Representation => _mix.Output;

    public override Slot RepresentationGradient => throw Inference();

    public override Slot? Factor => null;

    public override ActivationKind Activation => ActivationKind.None;

    public override bool Shared => _gate.Gates == 1;

    public override int Width => _mix.OutputWidth;

    public override Gate Gate => _gate;

    /// <summary>
    /// Whether it serves a model: two layers, no capacity that would drop pairs, and a device that gains by it. On a cpu the operation takes longer
    /// than products and combine for few rows, and as long for many (docs/kernels.md).
    /// </summary>
    public static bool Serves(LayerContext context, ArchitectureDescription architecture) =>
        !context.Training && context.Precision == Precision.Bf16 && !context.Device.Info.HostAccessible
        && architecture.Experts!.Layers.Count == 2 && architecture.Gate.CapacityFactor == null;

    public override void Pack()
    {
        _gate.Pack();
        _mix.Pack();
    }

    public override void Forward(long rows, long step)
    {
        _gate.Forward(rows, step);
        _mix.Forward(rows);
    }

    public override void Backward(long rows, long step, float* taskWeights) => throw Inference();

    private static InvalidOperationException Inference() => new("the model was made for inference");
}
