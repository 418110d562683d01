using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>y = w V with numbers w of each sample, which have no gradient, and a small matrix V that all samples share and that changes with every batch.</summary>
internal sealed unsafe class SharedProduct
{
    private readonly LayerContext _context;
    private readonly Slot _weights;
    private readonly Slot _shared;
    private readonly PackedMatrix _packed;
    private GemmDgradArgs _forward;
    private GemmWgradArgs _backward;

    /// <param name="context">The context.</param>
    /// <param name="name">Prefix of its buffers.</param>
    /// <param name="weights">[rows, n] w.</param>
    /// <param name="shared">[n, width] V.</param>
    public SharedProduct(LayerContext context, string name, Slot weights, Slot shared)
    {
        _context = context;
        _weights = weights;
        _shared = shared;
        Output = context.Reserve($"{name}.output", shared.Columns);
        if (context.Training)
            OutputGradient = context.Reserve($"{name}.gradient", shared.Columns);
        _packed = new(context, name, weights.Columns, shared.Columns, transposed: true, rowStride: shared.RowStride);
        context.OnBind(Bind);
    }

    /// <summary>[rows, width].</summary>
    public Slot Output { get; }

    /// <summary>Where its gradient is to be written.</summary>
    public Slot OutputGradient { get; } = null!;

    public void Forward(long rows)
    {
        _packed.Pack(_shared.Data);
        _forward.Rows = rows;
        _forward.Workspace = (void*)_context.Workspace;
        _forward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (GemmDgradArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.GemmDgrad(_context.Stream.Native, args));
    }

    /// <summary>The gradient of V, written or added to <paramref name="target"/>.</summary>
    public void BackwardShared(long rows, Slot target, bool accumulate)
    {
        _backward.Rows = rows;
        _backward.XRows = rows;
        _backward.Dw = target.Data;
        _backward.DwRowStride = target.RowStride;
        _backward.Accumulate = accumulate ? 1 : 0;
        _backward.Workspace = (void*)_context.Workspace;
        _backward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (GemmWgradArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.GemmWgrad(_context.Stream.Native, args));
    }

    private void Bind()
    {
        _forward = new()
        {
            StructSize = (uint)sizeof(GemmDgradArgs),
            Groups = 1,
            Rows = _context.MaxRows,
            N = _weights.Columns,
            K = _shared.Columns,
            Dz = _weights.Data,
            DzRowStride = _weights.RowStride,
            Packed = _packed.Data,
            Dx = Output.Data,
            DxRowStride = Output.RowStride,
            PackedDtype = _packed.Type,
        };
        long bytes;
        fixed (GemmDgradArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.GemmDgradWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
        if (!_context.Training)
            return;
        _backward = new()
        {
            StructSize = (uint)sizeof(GemmWgradArgs),
            Groups = 1,
            Rows = _context.MaxRows,
            XRows = _context.MaxRows,
            N = _weights.Columns,
            K = _shared.Columns,
            Dz = _weights.Data,
            DzRowStride = _weights.RowStride,
            X = (void*)OutputGradient.Pointer,
            XRowStride = OutputGradient.RowStride,
            DwRowStride = _shared.RowStride,
            ComputeDtype = _packed.Type,
        };
        fixed (GemmWgradArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.GemmWgradWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
