using System.Text;
using CudaMoE.Interop;

namespace CudaMoE.Tensors;

/// <summary>
/// A processor or GPU that runs operations. Open it once and share it; it closes when it and everything made on it is disposed.
/// </summary>
/// <remarks>All members are safe for concurrent use. Do not dispose it while a call on it is under way.</remarks>
public sealed class Device : IDisposable
{
    private readonly DeviceHandle _handle;
    private volatile bool _disposed;

    private Device(DeviceHandle handle, string spec)
    {
        _handle = handle;
        Spec = spec;
        Info = QueryInfo();
    }

    /// <summary>The name it was opened by.</summary>
    public string Spec { get; }

    /// <summary>What it is; live numbers as of opening, see <see cref="QueryInfo"/>.</summary>
    public DeviceProperties Info { get; }

    /// <summary>The native device, for what is made on it; refused once this is disposed, also while something made before keeps it open.</summary>
    internal DeviceHandle Handle
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _handle;
        }
    }

    /// <summary>Opens a device.</summary>
    /// <param name="spec">"cpu", "cpu:threads=N", "cuda:N", "simt", or "auto" (cpu in this version).</param>
    /// <exception cref="NativeLibraryException">The native library is missing.</exception>
    /// <exception cref="NativeException">The name is wrong or the device is not usable; the message says why.</exception>
    public static unsafe Device Open(string spec = "auto")
    {
        ArgumentNullException.ThrowIfNull(spec);
        NativeLibraryLoader.EnsureLoaded();
        nint handle;
        NativeStatus.Check(NativeMethods.DeviceOpen(spec, &handle));
        return new(new DeviceHandle(handle), spec);
    }

    /// <summary>The device's properties and its live allocations now.</summary>
    public unsafe DeviceProperties QueryInfo()
    {
        DeviceInfo info = new() { StructSize = (uint)sizeof(DeviceInfo) };
        NativeStatus.Check(NativeMethods.DeviceGetInfo(Handle.DangerousGetHandle(), &info));
        return new(
            BackendReport.Utf8(info.Backend),
            BackendReport.Utf8(info.Name),
            BackendReport.Utf8(info.Level),
            info.Threads,
            info.HostAccessible != 0,
            info.SupportsBf16 != 0,
            info.MemoryBytes,
            info.LiveBytes,
            info.LiveAllocations,
            info.Faulted != 0,
            info.MappedBytes);
    }

    /// <summary>
    /// What its user should know, a sentence each: on a GPU the kernels that were tried at their first use, found wrong there and replaced by plainer
    /// ones. Empty when there is nothing to say.
    /// </summary>
    public unsafe IReadOnlyList<string> QueryNotes()
    {
        nint device = Handle.DangerousGetHandle();
        long length;
        NativeStatus.Check(NativeMethods.DeviceGetNotes(device, null, 0, &length));
        if (length == 0)
            return [];
        byte[] text = new byte[length + 1];
        fixed (byte* buffer = text)
            NativeStatus.Check(NativeMethods.DeviceGetNotes(device, buffer, text.Length, &length));
        int written = (int)Math.Min(length, text.Length - 1);
        return Encoding.UTF8.GetString(text, 0, written).Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    /// <summary>Creates a stream; operations on it run in order.</summary>
    public DeviceStream CreateStream() => new(this);

    /// <summary>A stream of other code of this process, as a stream of this library: operations are queued on it among that code's own work.</summary>
    /// <param name="nativeStream">
    /// A <c>cudaStream_t</c> (<c>CUstream</c>) of the device's primary context, not the default stream. It stays the caller's and must live until the
    /// returned stream is disposed, which waits for it and leaves it as it is. While other code captures it, do not call on it; <see cref="DeviceStream.Capture"/>
    /// is the way to a capture.
    /// </param>
    /// <exception cref="NativeUnsupportedException">The device is a cpu, whose streams are its own.</exception>
    public DeviceStream WrapStream(nint nativeStream) => new(this, nativeStream);

    /// <summary>Memory of other code of this process, as a buffer of this library.</summary>
    /// <param name="pointer">A pointer to memory of this device, aligned to the elements that it will hold.</param>
    /// <param name="bytes">Its size, at least 0. It cannot be checked: operations beyond the memory's end are the caller's fault.</param>
    /// <remarks>The memory stays the caller's: it must live, and be in order on the streams that use it, until the returned buffer and all tensors on it are done with.</remarks>
    public DeviceBuffer WrapMemory(nint pointer, long bytes)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        return new(this, pointer, bytes);
    }

    /// <summary>Allocates zeroed memory, aligned to 64 bytes.</summary>
    /// <param name="bytes">At least 0.</param>
    public DeviceBuffer Allocate(long bytes) => new(this, bytes);

    /// <summary>
    /// Allocates zeroed host memory that operations of this device use in place of device memory: page-locked, and read and written over the bus by a GPU;
    /// ordinary memory on a cpu. For what is larger than the device's memory.
    /// </summary>
    /// <param name="bytes">At least 0.</param>
    /// <exception cref="DeviceOutOfMemoryException">The host does not have that much memory to lock.</exception>
    public DeviceBuffer AllocateMapped(long bytes) => new(this, bytes, mapped: true);

    /// <summary>Allocates host memory that copies of this device reach without waiting; its content is undefined.</summary>
    /// <param name="bytes">At least 0.</param>
    public HostBuffer AllocateHost(long bytes) => new(this, bytes);

    /// <summary>Refuses further calls with <see cref="ObjectDisposedException"/>. What was made on it goes on working; the last of that to be disposed closes it.</summary>
    public void Dispose()
    {
        _disposed = true;
        _handle.Dispose();
    }
}

/// <summary>What a device is.</summary>
/// <param name="Backend">"cpu", "cuda" or "simt".</param>
/// <param name="Name">The processor's or GPU's name.</param>
/// <param name="Level">Instruction set in use, e.g. "avx512bf16" or "sm_90".</param>
/// <param name="Threads">Worker threads, the caller included; multiprocessors of a GPU.</param>
/// <param name="HostAccessible">Whether the host can read and write device memory.</param>
/// <param name="SupportsBf16">Whether bf16 products have instructions of their own.</param>
/// <param name="MemoryBytes">Physical memory.</param>
/// <param name="LiveBytes">Bytes allocated and not yet freed.</param>
/// <param name="LiveAllocations">Their number.</param>
/// <param name="Faulted">Whether a kernel failed: every later call on the device fails and its memory is lost; dispose what was made on it.</param>
/// <param name="MappedBytes">Bytes of host memory that stand for device memory, see <see cref="Device.AllocateMapped"/>; they are not part of the live bytes.</param>
public sealed record DeviceProperties(
    string Backend,
    string Name,
    string Level,
    int Threads,
    bool HostAccessible,
    bool SupportsBf16,
    long MemoryBytes,
    long LiveBytes,
    long LiveAllocations,
    bool Faulted,
    long MappedBytes = 0);
