using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>
/// Numbers that operations write in device memory and the host reads: in place where the host can, else through a copy, which waits for the
/// device and is made when somebody asks for the first time after <see cref="Written"/>.
/// </summary>
/// <typeparam name="T">Element type.</typeparam>
internal sealed unsafe class HostReadable<T>
    where T : unmanaged
{
    private readonly LayerContext _context;
    private readonly Func<nint> _address;
    private readonly long _count;
    private HostBuffer? _copy;
    private bool _stale = true;

    /// <summary>Reserves memory of its own.</summary>
    public HostReadable(LayerContext context, string name, long count)
    {
        nint address = 0;
        context.Activations.Reserve(name, count * sizeof(T), p => address = p);
        _context = context;
        _count = count;
        _address = () => address;
        context.OnBind(Bind);
        context.OnReplay(Written);
    }

    /// <summary>The first rows of a matrix that is there already, gaps between its rows included.</summary>
    public HostReadable(LayerContext context, Slot slot)
    {
        _context = context;
        _count = context.MaxRows * slot.RowStride;
        _address = () => slot.Pointer;
        context.OnBind(Bind);
        context.OnReplay(Written);
    }

    /// <summary>Device address.</summary>
    public T* Device => (T*)_address();

    /// <summary>Must be called when an operation that writes it was queued.</summary>
    public void Written() => _stale = true;

    /// <summary>Host address of the first <paramref name="count"/> elements, valid until the next operation writes them.</summary>
    public T* Read(long count)
    {
        if (_context.Device.Info.HostAccessible)
            return Device;
        if (_stale)
        {
            _context.Stream.CopyToHost(_address(), _copy!.Pointer, count * sizeof(T));
            _stale = false;
        }

        return (T*)_copy!.Pointer;
    }

    /// <summary>All elements.</summary>
    public ReadOnlySpan<T> Read() => new(Read(_count), (int)_count);

    private void Bind()
    {
        if (!_context.Device.Info.HostAccessible)
            _copy = _context.Own(_context.Device.AllocateHost(_count * sizeof(T)));
    }
}
