using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>Leaves the even or the odd rows of a matrix and sets the others to 0, and puts all back.</summary>
internal sealed unsafe class RowHalves
{
    private readonly LayerContext _context;
    private readonly Slot _matrix;
    private readonly Slot[] _halves;
    private nint _copy;
    private nint _zero;

    /// <param name="context">The context.</param>
    /// <param name="matrix">The matrix.</param>
    public RowHalves(LayerContext context, Slot matrix)
    {
        _context = context;
        _matrix = matrix;
        Slot pairs = matrix.Reshape(2 * matrix.RowStride, 2 * matrix.RowStride);
        _halves = [pairs.Slice(0, matrix.Columns), pairs.Slice(matrix.RowStride, matrix.Columns)];
        context.Activations.Reserve("halves.copy", context.MaxRows * matrix.RowStride * sizeof(float), p => _copy = p);
        context.Activations.Reserve("halves.zero", sizeof(float), p => _zero = p);
        context.OnBind(() => context.Stream.Fill(_zero, 0, sizeof(float)));
    }

    /// <summary>Keeps the matrix.</summary>
    public void Save(long rows) => _context.Stream.CopyOnDevice(_matrix.Pointer, _copy, rows * _matrix.RowStride * sizeof(float));

    /// <summary>Puts it back.</summary>
    public void Restore(long rows) => _context.Stream.CopyOnDevice(_copy, _matrix.Pointer, rows * _matrix.RowStride * sizeof(float));

    /// <summary>Sets the even (0) or the odd (1) rows to 0.</summary>
    public void Clear(long rows, int half) => BalanceOperations.Scale(_context, _halves[half], (rows + 1 - half) / 2, (float*)_zero);
}
