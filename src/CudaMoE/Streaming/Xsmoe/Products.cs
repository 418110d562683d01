using CudaMoE.Description;
using CudaMoE.Interop;
using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Streaming.Xsmoe;

/// <summary>Work space that grows with what operations of varying shapes ask for; the memory that a running operation reads is not freed.</summary>
internal sealed unsafe class Scratch : IDisposable
{
    private readonly LayerContext _context;
    private DeviceBuffer? _buffer;

    public Scratch(LayerContext context)
    {
        _context = context;
        context.OnDispose(Dispose);
    }

    /// <summary>Size of the memory.</summary>
    public long Bytes => _buffer?.Bytes ?? 0;

    /// <summary>Memory of at least that size.</summary>
    public void* Need(long bytes)
    {
        if (bytes > Bytes)
        {
            _context.Stream.Synchronize();
            _buffer?.Dispose();
            _buffer = null;
            _buffer = _context.Device.Allocate(bytes + (bytes / 4));
        }

        return (void*)(_buffer?.Pointer ?? 0);
    }

    public void Dispose()
    {
        _buffer?.Dispose();
        _buffer = null;
    }
}

/// <summary>
/// Products with a matrix W [n, k] in device memory whose rows may vary in number: y = x W^T, y = s W, and the gradient dW = s^T x. W is packed
/// anew after each change. Each call asks for its work space, since a smaller product may be cut into more parts and need more.
/// </summary>
internal sealed unsafe class Products
{
    private readonly LayerContext _context;
    private readonly Scratch _scratch;
    private readonly long _maxN;
    private readonly long _k;
    private readonly PackedMatrix _packed;
    private readonly PackedMatrix _packedTransposed;
    private long _n;

    /// <param name="context">The context.</param>
    /// <param name="scratch">Work space.</param>
    /// <param name="name">Name of its buffers.</param>
    /// <param name="maxN">The most rows of W.</param>
    /// <param name="k">Columns of W.</param>
    /// <param name="rowStride">Elements from one row of W to the next; null = k.</param>
    public Products(LayerContext context, Scratch scratch, string name, long maxN, long k, long? rowStride = null)
    {
        _context = context;
        _scratch = scratch;
        _maxN = maxN;
        _k = k;
        _n = maxN;
        _packed = new(context, name, maxN, k, rowStride: rowStride);
        _packedTransposed = new(context, name, maxN, k, transposed: true, rowStride: rowStride);
    }

    /// <summary>Takes the first <paramref name="n"/> rows of a matrix.</summary>
    public void Pack(float* weights, long n)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(n, _maxN);
        _n = n;
        _packed.Pack(weights, n);
        _packedTransposed.Pack(weights, n);
    }

    /// <summary>y [rows, n] = x [rows, k] W^T (+ bias [n]).</summary>
    public void Forward(long rows, float* x, long xStride, float* bias, float* y, long yStride)
    {
        GemmForwardArgs args = new()
        {
            StructSize = (uint)sizeof(GemmForwardArgs),
            Groups = 1,
            Rows = rows,
            N = _n,
            K = _k,
            XRows = rows,
            X = x,
            XRowStride = xStride,
            Packed = _packed.Data,
            Bias = bias,
            BiasGroupStride = _n,
            Y = y,
            YRowStride = yStride,
            PackedDtype = _packed.Type,
        };
        long bytes;
        NativeStatus.Check(NativeMethods.GemmForwardWorkspace(_context.Stream.Native, &args, &bytes));
        args.Workspace = _scratch.Need(bytes);
        args.WorkspaceBytes = _scratch.Bytes;
        NativeStatus.Check(NativeMethods.GemmForward(_context.Stream.Native, &args));
    }

    /// <summary>y [rows, k] (+)= s [rows, n] W.</summary>
    public void Transposed(long rows, float* s, long sStride, float* y, long yStride, bool accumulate)
    {
        GemmDgradArgs args = new()
        {
            StructSize = (uint)sizeof(GemmDgradArgs),
            Groups = 1,
            Rows = rows,
            N = _n,
            K = _k,
            Dz = s,
            DzRowStride = sStride,
            Packed = _packedTransposed.Data,
            Dx = y,
            DxRowStride = yStride,
            PackedDtype = _packed.Type,
            Accumulate = accumulate ? 1 : 0,
        };
        long bytes;
        NativeStatus.Check(NativeMethods.GemmDgradWorkspace(_context.Stream.Native, &args, &bytes));
        args.Workspace = _scratch.Need(bytes);
        args.WorkspaceBytes = _scratch.Bytes;
        NativeStatus.Check(NativeMethods.GemmDgrad(_context.Stream.Native, &args));
    }

    /// <summary>dW [n, k] = s [rows, n]^T x [rows, k], for as many rows of W as the caller gives columns of s.</summary>
    public void Gradient(long rows, float* s, long sStride, long n, float* x, long xStride, float* dw, long dwStride)
    {
        GemmWgradArgs args = new()
        {
            StructSize = (uint)sizeof(GemmWgradArgs),
            Groups = 1,
            Rows = rows,
            N = n,
            K = _k,
            XRows = rows,
            Dz = s,
            DzRowStride = sStride,
            X = x,
            XRowStride = xStride,
            Dw = dw,
            DwRowStride = dwStride,
            DwGroupStride = n * dwStride,
            ComputeDtype = _packed.Type,
        };
        long bytes;
        NativeStatus.Check(NativeMethods.GemmWgradWorkspace(_context.Stream.Native, &args, &bytes));
        args.Workspace = _scratch.Need(bytes);
        args.WorkspaceBytes = _scratch.Bytes;
        NativeStatus.Check(NativeMethods.GemmWgrad(_context.Stream.Native, &args));
    }
}
