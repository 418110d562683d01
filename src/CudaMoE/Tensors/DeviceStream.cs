using CudaMoE.Interop;

namespace CudaMoE.Tensors;

/// <summary>An ordered queue of operations on a device.</summary>
/// <remarks>Not thread-safe: use a stream from one thread at a time.</remarks>
public sealed unsafe class DeviceStream : IDisposable
{
    private readonly StreamHandle _handle;
    private long _marks;
    private long _passed;

    internal DeviceStream(Device device)
    {
        Device = device;
        nint handle;
        NativeStatus.Check(NativeMethods.StreamCreate(device.Handle.DangerousGetHandle(), &handle));
        _handle = new StreamHandle(device.Handle, handle);
    }

    internal DeviceStream(Device device, nint native)
    {
        Device = device;
        nint handle;
        NativeStatus.Check(NativeMethods.StreamWrap(device.Handle.DangerousGetHandle(), (void*)native, &handle));
        _handle = new StreamHandle(device.Handle, handle);
    }

    /// <summary>The device.</summary>
    public Device Device { get; }

    /// <summary>The native handle, valid until this is disposed.</summary>
    internal nint Native => _handle.DangerousGetHandle();

    /// <summary>
    /// The <c>cudaStream_t</c> (<c>CUstream</c>) behind this stream, for code that queues its own work between operations of this library. Valid until this
    /// is disposed; do not destroy it.
    /// </summary>
    /// <exception cref="NativeUnsupportedException">The device is a cpu, whose streams are its own.</exception>
    public nint DangerousGetNativeStream()
    {
        ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
        void* native;
        NativeStatus.Check(NativeMethods.StreamGetNative(Native, &native));
        return (nint)native;
    }

    /// <summary>Waits for all operations.</summary>
    /// <exception cref="ReportedDataException">An operation met bad data since the last call.</exception>
    public void Synchronize()
    {
        int status = NativeMethods.StreamSynchronize(Native);
        _passed = _marks;
        NativeStatus.Check(status);
    }

    /// <summary>A place in the queue, behind all that is queued.</summary>
    internal long Mark() => ++_marks;

    /// <summary>Waits for what stands before a place, if it is not known to be done.</summary>
    internal void WaitFor(long mark)
    {
        if (mark > _passed)
            Synchronize();
    }

    /// <summary>Copies from host memory to device memory; the memory may be changed when this returns.</summary>
    public void CopyToDevice<T>(ReadOnlySpan<T> source, nint destination)
        where T : unmanaged
    {
        fixed (T* pointer = source)
            NativeStatus.Check(NativeMethods.MemoryCopy(Native, (void*)destination, pointer, (long)source.Length * sizeof(T), NativeConstants.HostToDevice));
    }

    /// <summary>Copies from the memory of a <see cref="HostBuffer"/>, which must stay as it is until the stream gets there.</summary>
    internal void CopyToDevice(nint source, nint destination, long bytes) =>
        NativeStatus.Check(NativeMethods.MemoryCopy(Native, (void*)destination, (void*)source, bytes, NativeConstants.HostToDevice));

    /// <summary>Copies from device memory to host memory, and waits for it.</summary>
    public void CopyToHost<T>(nint source, Span<T> destination)
        where T : unmanaged
    {
        fixed (T* pointer = destination)
            CopyToHost(source, (nint)pointer, (long)destination.Length * sizeof(T));
    }

    /// <summary>As the other overload, to native memory.</summary>
    internal void CopyToHost(nint source, nint destination, long bytes)
    {
        NativeStatus.Check(NativeMethods.MemoryCopy(Native, (void*)destination, (void*)source, bytes, NativeConstants.DeviceToHost));
        _passed = _marks;
    }

    /// <summary>Copies bytes within device memory; the ranges may not overlap.</summary>
    public void CopyOnDevice(nint source, nint destination, long bytes) =>
        NativeStatus.Check(NativeMethods.MemoryCopy(Native, (void*)destination, (void*)source, bytes, NativeConstants.DeviceToDevice));

    /// <summary>Sets every byte.</summary>
    public void Fill(nint destination, byte value, long bytes) => NativeStatus.Check(NativeMethods.MemoryFill(Native, (void*)destination, value, bytes));

    /// <summary>
    /// Keeps the operations, fills and device copies that <paramref name="calls"/> calls on this stream, without running them, to run them
    /// again and again by one call: as a CUDA graph on a GPU.
    /// </summary>
    /// <remarks>
    /// Pointers, sizes and numbers such as learning rates, steps and seeds are kept as they were; what device memory holds is read when it
    /// runs. Copies from and to the host and <see cref="Synchronize"/> throw meanwhile. Run the calls once before they are captured: a GPU loads
    /// kernels at their first call.
    /// </remarks>
    /// <exception cref="NativeException">An operation was refused, or the device failed; nothing is kept.</exception>
    public DeviceCapture Capture(Action calls)
    {
        ArgumentNullException.ThrowIfNull(calls);
        NativeStatus.Check(NativeMethods.CaptureBegin(Native));
        nint handle;
        try
        {
            calls();
        }
        catch
        {
            if (NativeMethods.CaptureEnd(Native, &handle) == 0)
                _ = NativeMethods.CaptureDestroy(handle);
            throw;
        }
        NativeStatus.Check(NativeMethods.CaptureEnd(Native, &handle));
        return new DeviceCapture(this, new CaptureHandle(_handle, handle));
    }

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();
}
