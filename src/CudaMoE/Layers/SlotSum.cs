using CudaMoE.Interop;
using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>Adds the rows that a sample has in slot order back to one row a sample: the gradient of the gather of routed rows.</summary>
internal sealed unsafe class SlotSum
{
    private readonly LayerContext _context;
    private readonly Routing _routing;
    private readonly Slot _slots;
    private readonly long _width;
    private nint _ones;
    private CombineForwardArgs _args;

    /// <param name="context">The context.</param>
    /// <param name="routing">The routing of the last forward.</param>
    /// <param name="slots">[slots, width].</param>
    public SlotSum(LayerContext context, Routing routing, Slot slots)
    {
        _context = context;
        _routing = routing;
        _slots = slots;
        _width = slots.Columns;
        Arena arena = context.Activations;
        arena.Reserve("slot_sum.ones", routing.MaxSlots * sizeof(float), p => _ones = p);
        context.OnBind(Bind);
    }

    /// <summary>Writes [rows, width] to <paramref name="samples"/>.</summary>
    public void Run(long rows, Slot samples)
    {
        _args.Y = samples.Data;
        _args.YRowStride = samples.RowStride;
        _args.Rows = rows;
        _args.ExpertRows = _routing.Slots(rows);
        fixed (CombineForwardArgs* args = &_args)
            NativeStatus.Check(NativeMethods.CombineForward(_context.Stream.Native, args));
    }

    private void Bind()
    {
        float[] ones = new float[_routing.MaxSlots];
        Array.Fill(ones, 1f);
        _context.Stream.CopyToDevice<float>(ones, _ones);
        _args = new()
        {
            StructSize = (uint)sizeof(CombineForwardArgs),
            Tasks = 1,
            Width = _width,
            Choices = _routing.Choices,
            Gates = (float*)_ones,
            SlotOfPair = _routing.SlotOfPair,
            Expert = (void*)_slots.Pointer,
            ExpertRowStride = _slots.RowStride,
            YTaskStride = _width,
        };
    }
}
