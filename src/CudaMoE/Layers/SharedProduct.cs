using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>y = w V with numbers w of each sample, which have no gradient, and a small matrix V that all samples share and that changes with every batch.</summary>
internal sealed unsafe class SharedProduct
{
    private readonly LayerContext _context;
    private readonly Slot _weights;
    private readonly Slot _shared;
    private nint _packed;
    private GemmPackArgs _pack;
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
        _pack = new()
        {
            StructSize = (uint)sizeof(GemmPackArgs),
            Groups = 1,
            N = weights.Columns,
            K = shared.Columns,
            WeightsRowStride = shared.RowStride,
            Transposed = 1,
            Dtype = Dtype,
        };
        long bytes;
        fixed (GemmPackArgs* args = &_pack)
            NativeStatus.Check(NativeMethods.GemmPackedBytes(context.Stream.Native, args, &bytes));
        _pack.PackedBytes = bytes;
        context.Packed.Reserve($"{name}.packed", bytes, p => _packed = p);
        context.OnBind(Bind);
    }

    /// <summary>[rows, width].</summary>
    public Slot Output { get; }

    /// <summary>Where its gradient is to be written.</summary>
    public Slot OutputGradient { get; } = null!;

    private int Dtype => _context.Precision == Precision.Bf16 ? NativeConstants.Bf16 : NativeConstants.F32;

    public void Forward(long rows)
    {
        fixed (GemmPackArgs* args = &_pack)
            NativeStatus.Check(NativeMethods.GemmPack(_context.Stream.Native, args));
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
        _pack.Weights = _shared.Data;
        _pack.Packed = (void*)_packed;
        _forward = new()
        {
            StructSize = (uint)sizeof(GemmDgradArgs),
            Groups = 1,
            Rows = _context.MaxRows,
            N = _weights.Columns,
            K = _shared.Columns,
            Dz = _weights.Data,
            DzRowStride = _weights.RowStride,
            Packed = (void*)_packed,
            Dx = Output.Data,
            DxRowStride = Output.RowStride,
            PackedDtype = Dtype,
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
            ComputeDtype = Dtype,
        };
        fixed (GemmWgradArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.GemmWgradWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
