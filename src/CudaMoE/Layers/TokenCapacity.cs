using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>
/// Capacity within a group of neighbouring rows, e.g. the tokens of one sample: of a group's choices an expert takes the first ones, in the order of the rows and of a row's
/// choices; the others are dropped.
/// </summary>
internal sealed unsafe class TokenCapacity
{
    private readonly LayerContext _context;
    private readonly HostReadable<long> _dropped;
    private nint _droppedRows;
    private GroupCapacityArgs _args;

    /// <param name="context">The context; its rows are those of the gate.</param>
    /// <param name="routing">What is limited.</param>
    /// <param name="experts">Experts.</param>
    /// <param name="chosen">[rows, choices] of the gate.</param>
    /// <param name="group">Rows of a group.</param>
    /// <param name="capacity">Choices that an expert takes of a group.</param>
    /// <param name="listDropped">Whether <see cref="DroppedRows"/> is wanted; only where a row has one choice.</param>
    public TokenCapacity(LayerContext context, Routing routing, int experts, Func<nint> chosen, int group, int capacity, bool listDropped = false)
    {
        _context = context;
        _dropped = new(context, "capacity.dropped", experts);
        if (listDropped)
            context.Activations.Reserve("capacity.dropped_rows", routing.MaxSlots * sizeof(int), p => _droppedRows = p);
        context.OnBind(() => _args = new()
        {
            StructSize = (uint)sizeof(GroupCapacityArgs),
            Experts = experts,
            Choices = routing.Choices,
            Group = group,
            Capacity = capacity,
            Chosen = (int*)chosen(),
            SlotOfPair = routing.SlotOfPair,
            DroppedPairs = DroppedRows,
            Dropped = _dropped.Device,
        });
    }

    /// <summary>[rows] of the last forward, in device memory: for a row whose choice was dropped here its own number, else -1.</summary>
    public int* DroppedRows => (int*)_droppedRows;

    /// <summary>[experts] choices of the last forward that were dropped here.</summary>
    public ReadOnlySpan<long> Dropped => _dropped.Read();

    /// <summary>Takes the slots of dropped choices away; after the routing's forward.</summary>
    public void Forward(long rows)
    {
        _args.Samples = rows;
        fixed (GroupCapacityArgs* args = &_args)
            NativeStatus.Check(NativeMethods.GroupCapacity(_context.Stream.Native, args));
        _dropped.Written();
    }
}
