using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>The element-wise product y = a * activation(b) of two slots: with SiLU the gated linear unit SwiGLU (Shazeer 2020), without activation a plain product.</summary>
internal sealed unsafe class GatedProduct
{
    private readonly LayerContext _context;
    private readonly Slot _a;
    private readonly Slot _b;
    private GatedProductForwardArgs _forward;
    private GatedProductBackwardArgs _backward;

    /// <param name="context">The context; its rows are those of the slots.</param>
    /// <param name="name">Name of its buffers.</param>
    /// <param name="a">[rows, width].</param>
    /// <param name="b">[rows, width], before its activation.</param>
    /// <param name="activation">The activation of b.</param>
    public GatedProduct(LayerContext context, string name, Slot a, Slot b, ActivationKind activation)
    {
        if (a.Columns != b.Columns)
            throw new ArgumentException($"{name}: the factors have {a.Columns} and {b.Columns} columns; they must have equally many");
        _context = context;
        _a = a;
        _b = b;
        Output = context.ReserveExact($"{name}.output", a.Columns);
        if (context.Training)
            OutputGradient = context.ReserveExact($"{name}.gradient", a.Columns);
        context.OnBind(() => Bind(activation));
    }

    /// <summary>[rows, width], rows without gaps.</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward; rows without gaps.</summary>
    public Slot OutputGradient { get; } = null!;

    public void Forward(long rows)
    {
        _forward.Rows = rows;
        fixed (GatedProductForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.GatedProductForward(_context.Stream.Native, args));
    }

    /// <summary>From <see cref="OutputGradient"/> to the gradients of a and of b before its activation.</summary>
    /// <param name="rows">Rows of the batch.</param>
    /// <param name="da">Receives the gradient of a.</param>
    /// <param name="db">Receives the gradient of b.</param>
    /// <param name="addToA">Adds to what <paramref name="da"/> holds instead of overwriting it.</param>
    public void Backward(long rows, Slot da, Slot db, bool addToA = false)
    {
        _backward.Rows = rows;
        _backward.AccumulateA = addToA ? 1 : 0;
        _backward.Da = da.Data;
        _backward.DaRowStride = da.RowStride;
        _backward.Db = db.Data;
        _backward.DbRowStride = db.RowStride;
        fixed (GatedProductBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.GatedProductBackward(_context.Stream.Native, args));
    }

    private void Bind(ActivationKind activation)
    {
        _forward = new()
        {
            StructSize = (uint)sizeof(GatedProductForwardArgs),
            Activation = (int)activation,
            ActivationSlope = _context.ActivationSlope,
            Width = _a.Columns,
            A = _a.Data,
            ARowStride = _a.RowStride,
            B = _b.Data,
            BRowStride = _b.RowStride,
            Y = Output.Data,
            YRowStride = Output.RowStride,
        };
        if (!_context.Training)
            return;
        _backward = new()
        {
            StructSize = (uint)sizeof(GatedProductBackwardArgs),
            Activation = (int)activation,
            ActivationSlope = _context.ActivationSlope,
            Width = _a.Columns,
            A = _a.Data,
            ARowStride = _a.RowStride,
            B = _b.Data,
            BRowStride = _b.RowStride,
            Dy = OutputGradient.Data,
            DyRowStride = OutputGradient.RowStride,
        };
    }
}
