using Microsoft.Win32.SafeHandles;

namespace CudaMoE.Interop;

/// <summary>Owns a native device.</summary>
internal sealed class DeviceHandle : SafeHandleZeroOrMinusOneIsInvalid
{
    public DeviceHandle(nint handle)
        : base(ownsHandle: true) => SetHandle(handle);

    protected override bool ReleaseHandle() => NativeMethods.DeviceClose(handle) == 0;
}

/// <summary>Owns a native stream and keeps its device alive.</summary>
internal sealed class StreamHandle : SafeHandleZeroOrMinusOneIsInvalid
{
    private readonly DeviceHandle _device;

    public StreamHandle(DeviceHandle device, nint handle)
        : base(ownsHandle: true)
    {
        bool added = false;
        device.DangerousAddRef(ref added);
        _device = device;
        SetHandle(handle);
    }

    protected override bool ReleaseHandle()
    {
        bool ok = NativeMethods.StreamDestroy(handle) == 0;
        _device.DangerousRelease();
        return ok;
    }
}

/// <summary>Owns memory that belongs to a device, and keeps the device alive.</summary>
internal abstract class DeviceOwnedHandle : SafeHandleZeroOrMinusOneIsInvalid
{
    private readonly DeviceHandle _device;

    protected DeviceOwnedHandle(DeviceHandle device, nint pointer)
        : base(ownsHandle: true)
    {
        bool added = false;
        device.DangerousAddRef(ref added);
        _device = device;
        SetHandle(pointer);
    }

    protected abstract int Free(nint device, nint pointer);

    protected override bool ReleaseHandle()
    {
        bool ok = Free(_device.DangerousGetHandle(), handle) == 0;
        _device.DangerousRelease();
        return ok;
    }
}

/// <summary>Owns device memory.</summary>
internal sealed unsafe class MemoryHandle(DeviceHandle device, nint pointer) : DeviceOwnedHandle(device, pointer)
{
    protected override int Free(nint device, nint pointer) => NativeMethods.MemoryFree(device, (void*)pointer);
}

/// <summary>Owns page-locked host memory.</summary>
internal sealed unsafe class HostMemoryHandle(DeviceHandle device, nint pointer) : DeviceOwnedHandle(device, pointer)
{
    protected override int Free(nint device, nint pointer) => NativeMethods.HostFree(device, (void*)pointer);
}

/// <summary>Owns a captured sequence of operations and keeps its stream alive.</summary>
internal sealed class CaptureHandle : SafeHandleZeroOrMinusOneIsInvalid
{
    private readonly StreamHandle _stream;

    public CaptureHandle(StreamHandle stream, nint handle)
        : base(ownsHandle: true)
    {
        bool added = false;
        stream.DangerousAddRef(ref added);
        _stream = stream;
        SetHandle(handle);
    }

    protected override bool ReleaseHandle()
    {
        bool ok = NativeMethods.CaptureDestroy(handle) == 0;
        _stream.DangerousRelease();
        return ok;
    }
}
