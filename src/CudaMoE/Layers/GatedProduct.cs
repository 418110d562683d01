using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>
/// The element-wise product y = a * b of two slots without gaps between their rows, where b may be the output of an activation: with SiLU the gated linear unit
/// SwiGLU (Shazeer 2020). It is a combination of one expert of width 1, so its backward takes the activation's derivative along.
/// </summary>
internal sealed unsafe class GatedProduct
{
    private readonly LayerContext _context;
    private readonly long _width;
    private CombineForwardArgs _forward;
    private CombineBackwardArgs _backward;

    /// <param name="context">The context; its rows are those of the slots.</param>
    /// <param name="name">Name of its buffers.</param>
    /// <param name="a">[rows, width], rows without gaps.</param>
    /// <param name="b">The same; after its activation.</param>
    /// <param name="preactivation">b before its activation; only where the activation's derivative is taken from it.</param>
    /// <param name="activation">The activation that made b.</param>
    public GatedProduct(LayerContext context, string name, Slot a, Slot b, Slot? preactivation, ActivationKind activation)
    {
        if (a.RowStride != a.Columns || b.RowStride != b.Columns || a.Columns != b.Columns)
            throw new ArgumentException($"{name}: the factors have {a.Columns} and {b.Columns} columns and strides {a.RowStride} and {b.RowStride}; all must be equal");
        _context = context;
        _width = a.Columns;
        Output = context.ReserveExact($"{name}.output", _width);
        if (context.Training)
        {
            OutputGradient = context.ReserveExact($"{name}.gradient", _width);
            AGradient = context.ReserveExact($"{name}.a_gradient", _width);
            BGradient = context.ReserveExact($"{name}.b_gradient", _width);
        }

        context.OnBind(() => Bind(a, b, preactivation, activation));
    }

    /// <summary>[rows, width].</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward; rows without gaps.</summary>
    public Slot OutputGradient { get; } = null!;

    /// <summary>Gradient of a, after the backward.</summary>
    public Slot AGradient { get; } = null!;

    /// <summary>Gradient of b before its activation, after the backward.</summary>
    public Slot BGradient { get; } = null!;

    public void Forward(long rows)
    {
        _forward.Rows = rows * _width;
        fixed (CombineForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.CombineForward(_context.Stream.Native, args));
    }

    public void Backward(long rows)
    {
        _backward.Rows = rows * _width;
        _backward.Workspace = (void*)_context.Workspace;
        _backward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (CombineBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.CombineBackward(_context.Stream.Native, args));
    }

    private void Bind(Slot a, Slot b, Slot? preactivation, ActivationKind activation)
    {
        _forward = new()
        {
            StructSize = (uint)sizeof(CombineForwardArgs),
            Tasks = 1,
            Width = 1,
            Choices = 1,
            Gates = a.Data,
            Expert = b.Data,
            ExpertRowStride = 1,
            ExpertStride = 1,
            Y = Output.Data,
            YRowStride = 1,
            YTaskStride = 1,
        };
        if (!_context.Training)
            return;
        _backward = new()
        {
            StructSize = (uint)sizeof(CombineBackwardArgs),
            Tasks = 1,
            Rows = _context.MaxRows * _width,
            Width = 1,
            Choices = 1,
            Activation = (int)activation,
            ActivationSlope = _context.ActivationSlope,
            Gates = a.Data,
            Expert = b.Data,
            Preactivation = preactivation == null ? null : preactivation.Data,
            ExpertRowStride = 1,
            ExpertStride = 1,
            Dy = OutputGradient.Data,
            DyRowStride = 1,
            DyTaskStride = 1,
            Dexpert = BGradient.Data,
            DexpertRowStride = 1,
            DexpertStride = 1,
            Dgates = AGradient.Data,
        };
        long bytes;
        fixed (CombineBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.CombineBackwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
