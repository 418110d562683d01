using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>
/// Capacity within a group of neighbouring rows, e.g. the tokens of one sample: of a group's choices an expert takes the first ones, in the order of the rows and of a row's
/// choices; the others are dropped. The host counts, so that on a device whose memory it cannot read every forward waits for the device.
/// </summary>
internal sealed class TokenCapacity
{
    private readonly LayerContext _context;
    private readonly Routing _routing;
    private readonly Func<nint> _chosenPointer;
    private readonly int _group;
    private readonly int _capacity;
    private readonly int _perRow;
    private readonly int[] _chosen;
    private readonly int[] _slots;
    private readonly int[] _taken;
    private readonly int[]? _droppedRows;
    private nint _droppedPointer;

    /// <param name="context">The context; its rows are those of the gate.</param>
    /// <param name="routing">What is limited.</param>
    /// <param name="experts">Experts.</param>
    /// <param name="chosen">[rows, choices] of the gate.</param>
    /// <param name="group">Rows of a group.</param>
    /// <param name="capacity">Choices that an expert takes of a group.</param>
    /// <param name="listDropped">Whether <see cref="DroppedRows"/> is wanted; only where a row has one choice.</param>
    public TokenCapacity(LayerContext context, Routing routing, int experts, Func<nint> chosen, int group, int capacity, bool listDropped = false)
    {
        if (listDropped)
        {
            _droppedRows = new int[routing.MaxSlots];
            context.Activations.Reserve("capacity.dropped_rows", routing.MaxSlots * sizeof(int), p => _droppedPointer = p);
        }

        _context = context;
        _routing = routing;
        _chosenPointer = chosen;
        _group = group;
        _capacity = capacity;
        _perRow = routing.Choices;
        _chosen = new int[routing.MaxSlots];
        _slots = new int[routing.MaxSlots];
        _taken = new int[experts];
        Dropped = new long[experts];
    }

    /// <summary>[rows] of the last forward, in device memory: for a row whose choice was dropped here its own number, else -1.</summary>
    public unsafe int* DroppedRows => (int*)_droppedPointer;

    /// <summary>[experts] choices of the last forward that were dropped here.</summary>
    public long[] Dropped { get; }

    /// <summary>Takes the slots of dropped choices away; after the routing's forward.</summary>
    public unsafe void Forward(long rows)
    {
        int pairs = checked((int)(rows * _perRow)), size = _group * _perRow;
        DeviceStream stream = _context.Stream;
        stream.CopyToHost(_chosenPointer(), _chosen.AsSpan(0, pairs));
        stream.CopyToHost((nint)_routing.SlotOfPair, _slots.AsSpan(0, pairs));
        Array.Clear(Dropped);
        if (_droppedRows != null)
            Array.Fill(_droppedRows, -1);
        for (int first = 0; first < pairs; first += size)
        {
            Array.Clear(_taken);
            for (int pair = first; pair < first + size; pair++)
            {
                int expert = _chosen[pair];
                if (_taken[expert]++ < _capacity || _slots[pair] < 0)
                    continue;
                _slots[pair] = -1;
                if (_droppedRows != null)
                    _droppedRows[pair] = pair;
                Dropped[expert]++;
            }
        }

        stream.CopyToDevice<int>(_slots.AsSpan(0, pairs), (nint)_routing.SlotOfPair);
        if (_droppedRows != null)
            stream.CopyToDevice<int>(_droppedRows.AsSpan(0, pairs), _droppedPointer);
    }
}
