using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>Wiring of a <see cref="Combine"/>.</summary>
internal sealed record CombinePlan
{
    /// <summary>Prefix of the buffers' names.</summary>
    public required string Name { get; init; }

    /// <summary>Sums of a sample: one a gate.</summary>
    public required int Sums { get; init; }

    /// <summary>What a sum chooses from: all experts when dense, top k when sparse.</summary>
    public required int Choices { get; init; }

    /// <summary>[rows, sums, choices] weights of the mixture, without gaps.</summary>
    public required Slot Weights { get; init; }

    /// <summary>In the same layout the weights that the gradients of the experts are made with, 0 where a sum's gradient is blocked from an expert; null = <see cref="Weights"/>.</summary>
    public Slot? BackwardWeights { get; init; }

    /// <summary>Where the gradient of the weights goes; null = nobody wants it.</summary>
    public Slot? WeightsGradient { get; init; }

    public required GroupedMlp Experts { get; init; }

    /// <summary>Sparse mixtures only.</summary>
    public Routing? Routing { get; init; }

    /// <summary>Weights that are added to those of every sample; null = none. Dense mixtures only.</summary>
    public ResidualWeights? Residual { get; init; }

    /// <summary>The activation that made the experts' outputs.</summary>
    public required ActivationKind Activation { get; init; }
}

/// <summary>
/// Weighted sums of expert outputs: y[b, t, :] = sum over the choices of gate t, of gate weight (+ residual weight) times expert. Dense: experts lie
/// side by side in a row; sparse: in slots.
/// </summary>
internal sealed unsafe class Combine
{
    private readonly LayerContext _context;
    private readonly CombinePlan _plan;
    private readonly int _width;
    private CombineForwardArgs _forward;
    private CombineBackwardArgs _backward;

    public Combine(LayerContext context, CombinePlan plan)
    {
        _context = context;
        _plan = plan;
        _width = plan.Experts.OutputWidth;
        Output = context.Reserve($"{plan.Name}.output", (long)plan.Sums * _width);
        if (context.Training)
            OutputGradient = context.Reserve($"{plan.Name}.gradient", (long)plan.Sums * _width);
        context.OnBind(Bind);
    }

    /// <summary>[rows, sums * width].</summary>
    public Slot Output { get; }

    /// <summary>Gradient of <see cref="Output"/>, [rows, sums * width].</summary>
    public Slot OutputGradient { get; } = null!;

    public void Forward(long rows)
    {
        _forward.Rows = rows;
        _forward.ExpertRows = _plan.Routing?.Slots(rows) ?? 0;
        fixed (CombineForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.CombineForward(_context.Stream.Native, args));
    }

    /// <summary>Gradients of the experts' outputs (before their activation), of the gate weights and of the residual ones.</summary>
    /// <param name="rows">Rows of the batch.</param>
    /// <param name="taskScale">[sums] factor of each sum's gradient, in device memory; null = 1.</param>
    public void Backward(long rows, float* taskScale)
    {
        _backward.Rows = rows;
        _backward.ExpertRows = _plan.Routing?.Slots(rows) ?? 0;
        _backward.TaskScale = taskScale;
        _backward.Workspace = (void*)_context.Workspace;
        _backward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (CombineBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.CombineBackward(_context.Stream.Native, args));
    }

    private void Bind()
    {
        Slot expert = _plan.Experts.Output;
        _forward = new()
        {
            StructSize = (uint)sizeof(CombineForwardArgs),
            Tasks = _plan.Sums,
            Rows = _context.MaxRows,
            Width = _width,
            Choices = _plan.Choices,
            Gates = _plan.Weights.Data,
            Residual = _plan.Residual == null ? null : _plan.Residual.Value,
            SlotOfPair = _plan.Routing == null ? null : _plan.Routing.SlotOfPair,
            Expert = (void*)expert.Pointer,
            ExpertRowStride = expert.RowStride,
            ExpertStride = _plan.Routing == null ? _width : 0,
            ExpertRows = _plan.Routing?.MaxSlots ?? 0,
            Y = Output.Data,
            YRowStride = Output.RowStride,
            YTaskStride = _width,
        };
        if (!_context.Training)
            return;
        _backward = new()
        {
            StructSize = (uint)sizeof(CombineBackwardArgs),
            Tasks = _plan.Sums,
            Rows = _context.MaxRows,
            Width = _width,
            Choices = _plan.Choices,
            Activation = (int)_plan.Activation,
            ActivationSlope = _context.ActivationSlope,
            Gates = (_plan.BackwardWeights ?? _plan.Weights).Data,
            Residual = _plan.Residual == null ? null : _plan.Residual.Value,
            SlotOfPair = _plan.Routing == null ? null : _plan.Routing.SlotOfPair,
            Expert = (void*)expert.Pointer,
            Preactivation = _plan.Experts.OutputPreactivation == null ? null : (void*)_plan.Experts.OutputPreactivation.Pointer,
            ExpertRowStride = expert.RowStride,
            ExpertStride = _plan.Routing == null ? _width : 0,
            ExpertRows = _plan.Routing?.MaxSlots ?? 0,
            Dy = OutputGradient.Data,
            DyRowStride = OutputGradient.RowStride,
            DyTaskStride = _width,
            Dexpert = (void*)_plan.Experts.OutputGradient.Pointer,
            DexpertRowStride = _plan.Experts.OutputGradient.RowStride,
            DexpertStride = _plan.Routing == null ? _width : 0,
            Dgates = _plan.WeightsGradient == null ? null : _plan.WeightsGradient.Data,
            Dresidual = _plan.Residual == null ? null : _plan.Residual.Gradient,
        };
        long bytes;
        fixed (CombineBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.CombineBackwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
