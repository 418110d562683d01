using System.Numerics.Tensors;
using CudaMoE.Balancing;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// Sums over rows, and factors by column, of the stored task gradients. For the balancers that look at more than the Gram matrix: the operations run on the device, only tasks * width
/// numbers cross to the host and back.
/// </summary>
internal sealed unsafe class GradientColumns
{
    private readonly LayerContext _context;
    private readonly Slot[] _gradients;
    private readonly Slot[] _representations;
    private readonly HostReadable<double> _sums;
    private readonly int _width;
    private nint _factors;

    /// <param name="context">The context.</param>
    /// <param name="gradients">The gradient of each task, of one width, side by side in one matrix.</param>
    /// <param name="representations">What they are gradients of: side by side too, or the same for all.</param>
    public GradientColumns(LayerContext context, Slot[] gradients, Slot[] representations)
    {
        _context = context;
        _gradients = gradients;
        _representations = representations;
        _width = (int)gradients[0].Columns;
        _sums = new(context, "columns.sums", 2L * gradients.Length * _width);
        context.Activations.Reserve("columns.factors", (long)gradients.Length * _width * sizeof(float), p => _factors = p);
        context.OnBind(() => context.NeedWorkspace(BalanceOperations.ColumnsWorkspace(context, Sums(context.MaxRows, ColumnKind.Halves))));
    }

    /// <summary>Sums of the columns, see <see cref="ColumnKind"/>.</summary>
    /// <param name="rows">Rows of the batch.</param>
    /// <param name="kind">Which sums.</param>
    /// <param name="sums">Receives [tasks, width], for halves [2, tasks, width].</param>
    public void Sum(long rows, ColumnKind kind, Span<double> sums)
    {
        BalanceOperations.Columns(_context, Sums(rows, kind));
        _sums.Written();
        _context.Stream.Synchronize();
        new ReadOnlySpan<double>(_sums.Read(sums.Length), sums.Length).CopyTo(sums);
        if (kind == ColumnKind.Halves)
            TensorPrimitives.Multiply(sums, 2.0, sums);
    }

    /// <summary>Multiplies the columns of the tasks' gradients by factors [tasks, width], in place.</summary>
    public void Scale(long rows, ReadOnlySpan<float> factors)
    {
        if (factors.Length != _gradients.Length * _width)
            throw new ArgumentException($"factors has {factors.Length} entries; it must have {_gradients.Length} x {_width}", nameof(factors));
        _context.Stream.CopyToDevice(factors, _factors);
        BalanceOperations.ScaleColumns(_context, _gradients[0], Stride(_gradients), _gradients.Length, rows, (float*)_factors);
    }

    private BalanceOperations.ColumnSums Sums(long rows, ColumnKind kind) => new(
        _gradients[0],
        Stride(_gradients),
        kind == ColumnKind.Signed ? _representations[0] : null,
        Stride(_representations),
        _gradients.Length,
        rows,
        kind == ColumnKind.Halves ? 2 : 1,
        _sums.Device);

    /// <summary>Elements from one task's matrix to the next one's.</summary>
    private static long Stride(Slot[] slots) => slots.Length == 1 ? 0 : (slots[1].Pointer - slots[0].Pointer) / sizeof(float);
}
