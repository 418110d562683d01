using CudaMoE.Interop;

namespace CudaMoE.Tensors;

/// <summary>A block of device memory, or of host memory in its place, its own or, by <see cref="Device.WrapMemory"/>, of other code. Tensors are views of it and are valid until it is disposed.</summary>
public sealed unsafe class DeviceBuffer : IDisposable
{
    private readonly MemoryHandle? _handle;
    private readonly nint _wrapped;
    private bool _disposed;

    internal DeviceBuffer(Device device, long bytes, bool mapped = false)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        Device = device;
        Bytes = bytes;
        nint handle = device.Handle.DangerousGetHandle();
        void* pointer;
        NativeStatus.Check(mapped ? NativeMethods.MemoryAllocateMapped(handle, bytes, &pointer) : NativeMethods.MemoryAllocate(handle, bytes, &pointer));
        _handle = new MemoryHandle(device.Handle, (nint)pointer);
    }

    internal DeviceBuffer(Device device, nint pointer, long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        if (pointer == 0 && bytes > 0)
            throw new ArgumentException($"pointer is null; it must point to {bytes} bytes of memory of the device", nameof(pointer));
        Device = device;
        Bytes = bytes;
        _wrapped = pointer;
    }

    /// <summary>The device.</summary>
    public Device Device { get; }

    /// <summary>Whether the memory is freed when this is disposed; false for memory of other code.</summary>
    public bool IsOwner => _handle is not null;

    /// <summary>Size.</summary>
    public long Bytes { get; }

    /// <summary>The device pointer, valid until this is disposed.</summary>
    public nint Pointer
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _handle?.DangerousGetHandle() ?? _wrapped;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _disposed = true;
        _handle?.Dispose();
    }
}
