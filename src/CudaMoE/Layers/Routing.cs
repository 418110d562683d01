using CudaMoE.Description;
using CudaMoE.Interop;
using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>
/// Sorts the (sample, choice) pairs of a sparse gate by expert. A slot is a row of the experts' inputs and outputs; slots of an expert are
/// neighbours.
/// </summary>
internal sealed unsafe class Routing
{
    private readonly LayerContext _context;
    private readonly GateDescription _gate;
    private readonly int _experts;
    private readonly int _choices;
    private readonly Func<nint> _chosen;
    private readonly Func<nint> _weights;
    private readonly HostReadable<long> _dropped;
    private nint _offsets;
    private nint _sampleOfSlot;
    private nint _pairOfSlot;
    private nint _slotOfPair;
    private RoutingArgs _args;

    public Routing(LayerContext context, GateDescription gate, int experts, int gates, Func<nint> chosen, Func<nint> weights)
    {
        _context = context;
        _gate = gate;
        _experts = experts;
        _choices = gates * gate.TopK!.Value;
        _chosen = chosen;
        _weights = weights;
        MaxSlots = checked((long)context.MaxRows * _choices);
        Arena arena = context.Activations;
        arena.Reserve("routing.offsets", (experts + 1L) * sizeof(long), p => _offsets = p);
        arena.Reserve("routing.sample_of_slot", MaxSlots * sizeof(int), p => _sampleOfSlot = p);
        arena.Reserve("routing.pair_of_slot", MaxSlots * sizeof(int), p => _pairOfSlot = p);
        arena.Reserve("routing.slot_of_pair", MaxSlots * sizeof(int), p => _slotOfPair = p);
        _dropped = new(context, "routing.dropped", experts);
        context.OnBind(Bind);
    }

    /// <summary>Most slots of a batch.</summary>
    public long MaxSlots { get; }

    public int Choices => _choices;

    /// <summary>[experts + 1] first slot of each expert.</summary>
    public long* Offsets => (long*)_offsets;

    /// <summary>Sample of each slot.</summary>
    public int* SampleOfSlot => (int*)_sampleOfSlot;

    /// <summary>Slot of each pair; -1 = dropped.</summary>
    public int* SlotOfPair => (int*)_slotOfPair;

    /// <summary>[experts] pairs that found no place.</summary>
    public ReadOnlySpan<long> Dropped => _dropped.Read();

    /// <summary>Slots, used or not, of <paramref name="rows"/> samples.</summary>
    public long Slots(long rows) => rows * _choices;

    public void Forward(long rows)
    {
        _args.Samples = rows;
        _args.Capacity = _gate.CapacityFactor is { } factor ? Math.Max(1, (long)Math.Ceiling(factor * rows * _choices / _experts)) : 0;
        _args.Workspace = (void*)_context.Workspace;
        _args.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (RoutingArgs* args = &_args)
            NativeStatus.Check(NativeMethods.Routing(_context.Stream.Native, args));
        _dropped.Written();
    }

    private void Bind()
    {
        _args = new()
        {
            StructSize = (uint)sizeof(RoutingArgs),
            Experts = _experts,
            Samples = _context.MaxRows,
            Choices = _choices,
            Order = (int)_gate.Order,
            Chosen = (int*)_chosen(),
            Weights = _gate.Order == RoutingOrder.Priority ? (float*)_weights() : null,
            Offsets = Offsets,
            SampleOfSlot = SampleOfSlot,
            PairOfSlot = (int*)_pairOfSlot,
            SlotOfPair = SlotOfPair,
            Dropped = _dropped.Device,
        };
        long bytes;
        fixed (RoutingArgs* args = &_args)
            NativeStatus.Check(NativeMethods.RoutingWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
