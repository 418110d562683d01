using CudaMoE.Interop;

namespace CudaMoE.Tensors;

/// <summary>
/// Owns host memory that copies of a device reach without waiting: page-locked for a GPU, ordinary memory for the cpu. Its content is undefined at first.
/// </summary>
/// <remarks>A copy to the device may read it until the stream gets there: do not change or dispose it before.</remarks>
public sealed unsafe class HostBuffer : IDisposable
{
    private readonly HostMemoryHandle _handle;

    internal HostBuffer(Device device, long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        Bytes = bytes;
        void* pointer;
        NativeStatus.Check(NativeMethods.HostAllocate(device.Handle.DangerousGetHandle(), bytes, &pointer));
        _handle = new HostMemoryHandle(device.Handle, (nint)pointer);
    }

    /// <summary>Size.</summary>
    public long Bytes { get; }

    /// <summary>The address, aligned to 64 bytes; valid until this is disposed.</summary>
    public nint Pointer
    {
        get
        {
            ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
            return _handle.DangerousGetHandle();
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();
}
