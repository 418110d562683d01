using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>Products with a small matrix of constants, in f32: sums and differences of columns, scaled copies, activations of columns.</summary>
internal sealed unsafe class FixedMatrix
{
    private readonly LayerContext _context;
    private readonly int _n;
    private readonly int _k;
    private readonly float[] _values;
    private nint _matrix;
    private readonly PackedMatrix _packed;
    private readonly PackedMatrix _packedTransposed;

    /// <param name="context">The context.</param>
    /// <param name="name">Prefix of its buffers.</param>
    /// <param name="n">Rows of the matrix C.</param>
    /// <param name="k">Columns of C.</param>
    /// <param name="values">C, row after row.</param>
    public FixedMatrix(LayerContext context, string name, int n, int k, float[] values)
    {
        _context = context;
        _n = n;
        _k = k;
        _values = values;
        context.Packed.Reserve($"{name}.matrix", (long)n * k * sizeof(float), p => _matrix = p);
        _packed = new(context, name, n, k, alwaysF32: true);
        _packedTransposed = new(context, name, n, k, transposed: true, alwaysF32: true);
        context.OnBind(Bind);
    }

    /// <summary>The packed C, as gates take it.</summary>
    public void* Packed => _packed.Data;

    /// <summary>y = activation(x C^T), [rows, n].</summary>
    public void Multiply(long rows, Slot x, Slot y, ActivationKind activation)
    {
        GemmForwardArgs args = ForwardArgs(rows, x, y, activation);
        args.Workspace = (void*)_context.Workspace;
        args.WorkspaceBytes = _context.WorkspaceBytes;
        NativeStatus.Check(NativeMethods.GemmForward(_context.Stream.Native, &args));
    }

    /// <summary>dx = dz C, [rows, k], times the derivative of <paramref name="activation"/>, whose output is <paramref name="below"/> (null = no factor).</summary>
    public void MultiplyTransposed(long rows, Slot dz, Slot dx, Slot? below, ActivationKind activation)
    {
        GemmDgradArgs args = BackwardArgs(rows, dz, dx, below, activation);
        args.Workspace = (void*)_context.Workspace;
        args.WorkspaceBytes = _context.WorkspaceBytes;
        NativeStatus.Check(NativeMethods.GemmDgrad(_context.Stream.Native, &args));
    }

    private GemmForwardArgs ForwardArgs(long rows, Slot? x, Slot? y, ActivationKind activation) => new()
    {
        StructSize = (uint)sizeof(GemmForwardArgs),
        Groups = 1,
        Rows = rows,
        N = _n,
        K = _k,
        XRows = rows,
        X = x == null ? null : x.Data,
        XRowStride = x?.RowStride ?? _k,
        Packed = _packed.Data,
        Y = y == null ? null : y.Data,
        YRowStride = y?.RowStride ?? _n,
        Activation = (int)activation,
    };

    private GemmDgradArgs BackwardArgs(long rows, Slot? dz, Slot? dx, Slot? below, ActivationKind activation) => new()
    {
        StructSize = (uint)sizeof(GemmDgradArgs),
        Groups = 1,
        Rows = rows,
        N = _n,
        K = _k,
        Dz = dz == null ? null : dz.Data,
        DzRowStride = dz?.RowStride ?? _n,
        Packed = _packedTransposed.Data,
        Dx = dx == null ? null : dx.Data,
        DxRowStride = dx?.RowStride ?? _k,
        Activation = below == null ? 0 : (int)activation,
        Below = below == null ? null : below.Data,
        BelowRowStride = below?.RowStride ?? 0,
    };

    private void Bind()
    {
        _context.Stream.CopyToDevice<float>(_values, _matrix);
        _packed.Pack((float*)_matrix);
        _packedTransposed.Pack((float*)_matrix);
        long bytes;
        GemmForwardArgs forward = ForwardArgs(_context.MaxRows, null, null, ActivationKind.None);
        NativeStatus.Check(NativeMethods.GemmForwardWorkspace(_context.Stream.Native, &forward, &bytes));
        _context.NeedWorkspace(bytes);
        GemmDgradArgs backward = BackwardArgs(_context.MaxRows, null, null, null, ActivationKind.None);
        NativeStatus.Check(NativeMethods.GemmDgradWorkspace(_context.Stream.Native, &backward, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
