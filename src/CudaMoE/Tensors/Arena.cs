namespace CudaMoE.Tensors;

/// <summary>
/// One block of device memory for many buffers. Buffers are reserved first; <see cref="Commit"/> allocates the block once and tells each its
/// address. Nothing is allocated after that.
/// </summary>
/// <remarks>Not thread-safe.</remarks>
public sealed class Arena : IDisposable
{
    private const long Alignment = 64;
    private readonly List<(string Name, long Offset, long Bytes, Action<nint> Assign)> _reservations = [];
    private DeviceBuffer? _block;
    private long _bytes;

    /// <summary>Bytes reserved, gaps for alignment included.</summary>
    public long Bytes => _bytes;

    /// <summary>Name and size of each buffer, in order.</summary>
    public IEnumerable<(string Name, long Bytes)> Buffers => _reservations.Select(r => (r.Name, r.Bytes));

    /// <summary>Reserves <paramref name="bytes"/>; <paramref name="assign"/> gets the address at <see cref="Commit"/>.</summary>
    public void Reserve(string name, long bytes, Action<nint> assign)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        if (_block != null)
            throw new InvalidOperationException($"{name} was reserved after the arena was committed");
        _reservations.Add((name, _bytes, bytes, assign));
        _bytes = checked((_bytes + bytes + Alignment - 1) / Alignment * Alignment);
    }

    /// <summary>Allocates the block, zeroed, and assigns the addresses.</summary>
    public void Commit(Device device)
    {
        if (_block != null)
            throw new InvalidOperationException("the arena is committed already");
        _block = device.Allocate(_bytes);
        foreach ((_, long offset, _, Action<nint> assign) in _reservations)
            assign(_block.Pointer + (nint)offset);
    }

    /// <inheritdoc/>
    public void Dispose() => _block?.Dispose();
}
