using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>Wiring of a <see cref="ConstantCombine"/>.</summary>
internal sealed record ConstantCombinePlan
{
    /// <summary>Name of its buffers.</summary>
    public required string Name { get; init; }

    /// <summary>Part i of row r begins i * <see cref="PartStride"/> behind the row's first column.</summary>
    public required Slot X { get; init; }

    /// <summary>Copy t of row r begins t * <see cref="CopyStride"/> behind the row's first column.</summary>
    public required Slot Y { get; init; }

    /// <summary>Columns of a part and of a copy.</summary>
    public required long Width { get; init; }

    /// <summary>Parts of a row that are added up.</summary>
    public int Parts { get; init; } = 1;

    public long PartStride { get; init; }

    /// <summary>How often the sum is written.</summary>
    public int Copies { get; init; } = 1;

    public long CopyStride { get; init; }

    /// <summary>Factor of every part.</summary>
    public float Factor { get; init; } = 1;

    /// <summary>The activation that made X, so that the backward gives the gradient before it.</summary>
    public ActivationKind Activation { get; init; }

    /// <summary>X before its activation; only where the activation's derivative is taken from it.</summary>
    public Slot? Preactivation { get; init; }
}

/// <summary>y[r, t, :] = factor * sum over the parts i of x[r, i, :] for every copy t: places a row in several others, or takes the mean of its parts.</summary>
internal sealed unsafe class ConstantCombine
{
    private readonly LayerContext _context;
    private readonly ConstantCombinePlan _plan;
    private nint _factors;
    private CombineForwardArgs _forward;
    private CombineBackwardArgs _backward;

    public ConstantCombine(LayerContext context, ConstantCombinePlan plan)
    {
        _context = context;
        _plan = plan;
        context.Activations.Reserve($"{plan.Name}.factors", (long)context.MaxRows * plan.Parts * plan.Copies * sizeof(float), p => _factors = p);
        context.OnBind(Bind);
    }

    public void Forward(long rows)
    {
        _forward.Rows = rows;
        fixed (CombineForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.CombineForward(_context.Stream.Native, args));
    }

    /// <summary>From the gradient <paramref name="dy"/> of Y, in its layout, to that of X before its activation, which is overwritten.</summary>
    public void Backward(long rows, Slot dy, Slot dx)
    {
        _backward.Rows = rows;
        _backward.Dy = dy.Data;
        _backward.DyRowStride = dy.RowStride;
        _backward.Dexpert = (void*)dx.Pointer;
        _backward.DexpertRowStride = dx.RowStride;
        _backward.Workspace = (void*)_context.Workspace;
        _backward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (CombineBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.CombineBackward(_context.Stream.Native, args));
    }

    private void Bind()
    {
        float[] factors = new float[_context.MaxRows * _plan.Parts * _plan.Copies];
        Array.Fill(factors, _plan.Factor);
        _context.Stream.CopyToDevice<float>(factors, _factors);
        _forward = new()
        {
            StructSize = (uint)sizeof(CombineForwardArgs),
            Tasks = _plan.Copies,
            Width = _plan.Width,
            Choices = _plan.Parts,
            Gates = (float*)_factors,
            Expert = (void*)_plan.X.Pointer,
            ExpertRowStride = _plan.X.RowStride,
            ExpertStride = _plan.PartStride,
            Y = _plan.Y.Data,
            YRowStride = _plan.Y.RowStride,
            YTaskStride = _plan.CopyStride,
        };
        if (!_context.Training)
            return;
        _backward = new()
        {
            StructSize = (uint)sizeof(CombineBackwardArgs),
            Tasks = _plan.Copies,
            Rows = _context.MaxRows,
            Width = _plan.Width,
            Choices = _plan.Parts,
            Activation = (int)_plan.Activation,
            ActivationSlope = _context.ActivationSlope,
            Gates = (float*)_factors,
            Expert = (void*)_plan.X.Pointer,
            Preactivation = _plan.Preactivation == null ? null : (void*)_plan.Preactivation.Pointer,
            ExpertRowStride = _plan.X.RowStride,
            ExpertStride = _plan.PartStride,
            DyRowStride = _plan.Y.RowStride,
            DyTaskStride = _plan.CopyStride,
            DexpertRowStride = _plan.X.RowStride,
            DexpertStride = _plan.PartStride,
        };
        long bytes;
        fixed (CombineBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.CombineBackwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
