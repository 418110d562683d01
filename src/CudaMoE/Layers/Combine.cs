using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>
/// Gate-weighted sums of expert outputs: y[b, t, :] = sum over the choices of gate t. Dense: experts lie side by side in a row; sparse: in
/// slots.
/// </summary>
internal sealed unsafe class Combine
{
    private readonly LayerContext _context;
    private readonly Gate _gate;
    private readonly GroupedMlp _experts;
    private readonly Routing? _routing;
    private readonly ActivationKind _activation;
    private readonly int _width;
    private CombineForwardArgs _forward;
    private CombineBackwardArgs _backward;

    public Combine(LayerContext context, Gate gate, GroupedMlp experts, Routing? routing, ActivationKind activation)
    {
        _context = context;
        _gate = gate;
        _experts = experts;
        _routing = routing;
        _activation = activation;
        _width = experts.OutputWidth;
        Output = context.Reserve("combine.output", (long)gate.Gates * _width);
        if (context.Training)
            OutputGradient = context.Reserve("combine.gradient", (long)gate.Gates * _width);
        context.OnBind(Bind);
    }

    /// <summary>[rows, gates * width].</summary>
    public Slot Output { get; }

    /// <summary>Gradient of <see cref="Output"/>, [rows, gates * width].</summary>
    public Slot OutputGradient { get; } = null!;

    public void Forward(long rows)
    {
        _forward.Rows = rows;
        _forward.ExpertRows = _routing?.Slots(rows) ?? 0;
        fixed (CombineForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.CombineForward(_context.Stream.Native, args));
    }

    /// <summary>Gradients of the experts' outputs (before their activation) and of the gate weights.</summary>
    /// <param name="rows">Rows of the batch.</param>
    /// <param name="taskScale">[gates] factor of each gate's gradient, in device memory; null = 1.</param>
    public void Backward(long rows, float* taskScale)
    {
        _backward.Rows = rows;
        _backward.ExpertRows = _routing?.Slots(rows) ?? 0;
        _backward.TaskScale = taskScale;
        _backward.Workspace = (void*)_context.Workspace;
        _backward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (CombineBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.CombineBackward(_context.Stream.Native, args));
    }

    private void Bind()
    {
        Slot expert = _experts.Output;
        _forward = new()
        {
            StructSize = (uint)sizeof(CombineForwardArgs),
            Tasks = _gate.Gates,
            Rows = _context.MaxRows,
            Width = _width,
            Choices = _gate.Choices,
            Gates = _gate.Output.Data,
            SlotOfPair = _routing == null ? null : _routing.SlotOfPair,
            Expert = (void*)expert.Pointer,
            ExpertRowStride = expert.RowStride,
            ExpertStride = _routing == null ? _width : 0,
            ExpertRows = _routing?.MaxSlots ?? 0,
            Y = Output.Data,
            YRowStride = Output.RowStride,
            YTaskStride = _width,
        };
        if (!_context.Training)
            return;
        _backward = new()
        {
            StructSize = (uint)sizeof(CombineBackwardArgs),
            Tasks = _gate.Gates,
            Rows = _context.MaxRows,
            Width = _width,
            Choices = _gate.Choices,
            Activation = (int)_activation,
            ActivationSlope = _context.ActivationSlope,
            Gates = _gate.Output.Data,
            SlotOfPair = _routing == null ? null : _routing.SlotOfPair,
            Expert = (void*)expert.Pointer,
            Preactivation = _experts.OutputPreactivation == null ? null : (void*)_experts.OutputPreactivation.Pointer,
            ExpertRowStride = expert.RowStride,
            ExpertStride = _routing == null ? _width : 0,
            ExpertRows = _routing?.MaxSlots ?? 0,
            Dy = OutputGradient.Data,
            DyRowStride = OutputGradient.RowStride,
            DyTaskStride = _width,
            Dexpert = (void*)_experts.OutputGradient.Pointer,
            DexpertRowStride = _experts.OutputGradient.RowStride,
            DexpertStride = _routing == null ? _width : 0,
            Dgates = _gate.OutputGradient.Data,
        };
        long bytes;
        fixed (CombineBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.CombineBackwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
