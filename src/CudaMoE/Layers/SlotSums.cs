using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>
/// Copies and sums of slots: y = x and y = y + x, for residual connections that no product accumulates. Row strides may differ.
/// </summary>
internal sealed unsafe class SlotSums
{
    private readonly LayerContext _context;
    private nint _one;

    public SlotSums(LayerContext context)
    {
        _context = context;
        context.Activations.Reserve("one", sizeof(float), p => _one = p);
        context.OnBind(() => context.Stream.CopyToDevice<float>([1f], _one));
    }

    /// <summary>to = from for the first rows.</summary>
    public void Copy(long rows, Slot from, Slot to) => BalanceOperations.Combine(_context, from, 0, 1, rows, (float*)_one, to, accumulate: false);

    /// <summary>to = to + from for the first rows.</summary>
    public void Add(long rows, Slot from, Slot to) => BalanceOperations.Combine(_context, from, 0, 1, rows, (float*)_one, to, accumulate: true);
}
