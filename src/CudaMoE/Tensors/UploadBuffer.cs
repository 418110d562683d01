namespace CudaMoE.Tensors;

/// <summary>
/// One block of device memory that is filled from the host again and again, in stream order. Each filling is prepared in page-locked memory
/// of its own, so that the host runs ahead of the device by <paramref name="depth"/> fillings before it waits.
/// </summary>
/// <param name="stream">The stream that copies, and whose operations read the block.</param>
/// <param name="depth">Fillings that may be under way, at least 1.</param>
internal sealed unsafe class UploadBuffer(DeviceStream stream, int depth) : IDisposable
{
    private readonly HostBuffer?[] _staging = new HostBuffer?[depth];
    private readonly long[] _marks = new long[depth];
    private DeviceBuffer? _block;
    private int _next;
    private long _bytes;
    private long _sent;

    /// <summary>Host memory for the next filling of <paramref name="bytes"/>; its content is undefined.</summary>
    public byte* Begin(long bytes)
    {
        _bytes = bytes;
        _sent = 0;
        stream.WaitFor(_marks[_next]);
        if (_staging[_next] is not { } staging || staging.Bytes < bytes)
        {
            _staging[_next]?.Dispose();
            _staging[_next] = null;
            _staging[_next] = staging = stream.Device.AllocateHost(Room(bytes));
        }

        return (byte*)staging.Pointer;
    }

    /// <summary>
    /// Queues the copy of what stands before <paramref name="end"/> and has not been sent, so that the device takes it while the host prepares the
    /// rest. What has been sent may not be changed.
    /// </summary>
    public void Send(long end)
    {
        if (_block == null || _block.Bytes < _bytes)
        {
            // Queued operations may still read the old block.
            stream.Synchronize();
            _block?.Dispose();
            _block = null;
            _block = stream.Device.Allocate(Room(_bytes));
        }

        if (end > _sent)
            stream.CopyToDevice(_staging[_next]!.Pointer + (nint)_sent, _block.Pointer + (nint)_sent, end - _sent);
        _sent = end;
    }

    /// <summary>Queues the copy of all that <see cref="Begin"/> gave and that has not been sent.</summary>
    /// <returns>Address of the block, the same until a larger filling comes.</returns>
    public byte* Commit()
    {
        Send(_bytes);
        _marks[_next] = stream.Mark();
        _next = (_next + 1) % depth;
        return (byte*)_block!.Pointer;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (HostBuffer? buffer in _staging)
            buffer?.Dispose();
        _block?.Dispose();
    }

    /// <summary>A quarter more, so that batches whose bags grow slowly do not allocate each time.</summary>
    private static long Room(long bytes) => bytes + (bytes / 4);
}
