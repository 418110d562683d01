using CudaMoE.Interop;

namespace CudaMoE.Tensors;

/// <summary>Owns a block of device memory. Tensors are views of it and are valid until it is disposed.</summary>
public sealed unsafe class DeviceBuffer : IDisposable
{
    private readonly MemoryHandle _handle;

    internal DeviceBuffer(Device device, long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        Device = device;
        Bytes = bytes;
        void* pointer;
        NativeStatus.Check(NativeMethods.MemoryAllocate(device.Handle.DangerousGetHandle(), bytes, &pointer));
        _handle = new MemoryHandle(device.Handle, (nint)pointer);
    }

    /// <summary>The device.</summary>
    public Device Device { get; }

    /// <summary>Size.</summary>
    public long Bytes { get; }

    /// <summary>The device pointer, valid until this is disposed.</summary>
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
