using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>
/// Rotary positions (Su et al. 2021, section 3.4) in place: row r is position r mod <c>positions</c>, the first half of a head's columns turns with the
/// second half. The gradient turns back.
/// </summary>
internal sealed unsafe class Rotary
{
    private readonly LayerContext _context;
    private RotaryArgs _args;

    /// <param name="context">The context; its rows are the tokens.</param>
    /// <param name="heads">Heads side by side; queries and the keys behind them turn in one call.</param>
    /// <param name="headWidth">Columns of a head; an odd one's last column stays.</param>
    /// <param name="positions">Tokens of a sequence.</param>
    /// <param name="frequencyBase">Base of the angles' frequencies.</param>
    public Rotary(LayerContext context, int heads, int headWidth, int positions, float frequencyBase = 10000)
    {
        _context = context;
        _args = new()
        {
            StructSize = (uint)sizeof(RotaryArgs),
            Heads = heads,
            HeadWidth = headWidth,
            RotaryWidth = headWidth / 2 * 2,
            Base = frequencyBase,
            Rows = context.MaxRows,
            Positions = positions,
        };
        context.OnBind(Bind);
    }

    /// <summary>Turns the heads of the first <paramref name="rows"/> rows.</summary>
    public void Forward(long rows, Slot x) => Run(rows, x, inverse: 0);

    /// <summary>Turns the gradient of what <see cref="Forward"/> wrote into that of what it read.</summary>
    public void Backward(long rows, Slot gradient) => Run(rows, gradient, inverse: 1);

    private void Run(long rows, Slot x, int inverse)
    {
        _args.Rows = rows;
        _args.X = x.Data;
        _args.XRowStride = x.RowStride;
        _args.Inverse = inverse;
        _args.Workspace = (void*)_context.Workspace;
        _args.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (RotaryArgs* args = &_args)
            NativeStatus.Check(NativeMethods.Rotary(_context.Stream.Native, args));
    }

    private void Bind()
    {
        long bytes;
        fixed (RotaryArgs* args = &_args)
            NativeStatus.Check(NativeMethods.RotaryWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
