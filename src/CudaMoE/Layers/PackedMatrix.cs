using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>A matrix [n, k], or one for each group, in the order that products read it. It is packed anew after each change of the matrix.</summary>
internal sealed unsafe class PackedMatrix
{
    private readonly LayerContext _context;
    private readonly long _rowStride;
    private nint _packed;
    private GemmPackArgs _args;

    /// <param name="context">The context.</param>
    /// <param name="name">Prefix of its buffer.</param>
    /// <param name="n">Rows of the matrix, the most where they vary.</param>
    /// <param name="k">Columns.</param>
    /// <param name="transposed">For products dz W instead of x W^T.</param>
    /// <param name="groups">Matrices, one below the other.</param>
    /// <param name="rowStride">Elements from one row to the next; null = k.</param>
    /// <param name="alwaysF32">Whether it stays f32 in models of other precision.</param>
    public PackedMatrix(LayerContext context, string name, long n, long k, bool transposed = false, int groups = 1, long? rowStride = null, bool alwaysF32 = false)
    {
        _context = context;
        _rowStride = rowStride ?? k;
        Type = alwaysF32 || context.Precision != Precision.Bf16 ? NativeConstants.F32 : NativeConstants.Bf16;
        _args = new()
        {
            StructSize = (uint)sizeof(GemmPackArgs),
            Groups = groups,
            N = n,
            K = k,
            WeightsRowStride = _rowStride,
            WeightsGroupStride = n * _rowStride,
            Transposed = transposed ? 1 : 0,
            Dtype = Type,
        };
        long bytes;
        fixed (GemmPackArgs* args = &_args)
            NativeStatus.Check(NativeMethods.GemmPackedBytes(context.Stream.Native, args, &bytes));
        _args.PackedBytes = bytes;
        context.Packed.Reserve($"{name}.packed", bytes, pointer => _packed = pointer);
    }

    /// <summary>What products take.</summary>
    public void* Data => (void*)_packed;

    /// <summary>Element type of <see cref="Data"/>, as products want to be told.</summary>
    public int Type { get; }

    /// <summary>Takes all rows of the matrix.</summary>
    public void Pack(float* weights) => Pack(weights, _args.N);

    /// <summary>Takes the first <paramref name="n"/> rows, at most as many as it was made for; only of one group.</summary>
    public void Pack(float* weights, long n)
    {
        GemmPackArgs args = _args;
        args.N = n;
        args.Weights = weights;
        args.Packed = Data;
        NativeStatus.Check(NativeMethods.GemmPack(_context.Stream.Native, &args));
    }
}
