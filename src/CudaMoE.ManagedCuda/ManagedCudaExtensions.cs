using System.Globalization;
using CudaMoE.Tensors;
using ManagedCuda;
using ManagedCuda.BasicTypes;

namespace CudaMoE.ManagedCuda;

/// <summary>Device memory, streams and contexts of CudaMoE as objects of managedCuda, and the other way. Nothing is copied, and no object owns what the other made.</summary>
/// <remarks>
/// managedCuda calls the driver, which wants a context on each thread that calls: <see cref="OpenPrimaryContext"/> once a thread. An object that is made
/// here must be done with before the one that it was made of is disposed.
/// </remarks>
public static class ManagedCudaExtensions
{
    /// <summary>The context that CudaMoE's kernels run in, the device's primary one, made the calling thread's. Dispose it when managedCuda is done with.</summary>
    /// <exception cref="ArgumentException">The device is not a GPU.</exception>
    public static PrimaryContext OpenPrimaryContext(this Device device)
    {
        PrimaryContext context = new(Ordinal(device));
        context.SetCurrent();
        return context;
    }

    /// <summary>A buffer as an array of <typeparamref name="T"/>; its size in bytes must be a multiple of the element's.</summary>
    /// <remarks>With an explicit size, for a buffer lies in a pool: asked for its extent, the driver would answer with the pool's block.</remarks>
    /// <exception cref="ArgumentException">The buffer is not of a GPU, or its size is no multiple of the element's.</exception>
    public static unsafe CudaDeviceVariable<T> AsCudaDeviceVariable<T>(this DeviceBuffer buffer)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(buffer);
        Ordinal(buffer.Device);
        if (buffer.Bytes % sizeof(T) != 0)
            throw new ArgumentException($"the buffer has {buffer.Bytes} bytes; that is no multiple of the {sizeof(T)} of {typeof(T).Name}", nameof(buffer));
        return new(PointerOf(buffer.Pointer), false, new SizeT(buffer.Bytes));
    }

    /// <summary>An array of managedCuda as a buffer of a device, which must be the GPU that it is on.</summary>
    /// <exception cref="ArgumentException">The device is not a GPU.</exception>
    public static DeviceBuffer AsDeviceBuffer<T>(this CudaDeviceVariable<T> variable, Device device)
        where T : struct
    {
        ArgumentNullException.ThrowIfNull(variable);
        Ordinal(device);
        return device.WrapMemory((nint)(ulong)variable.DevicePointer, (long)(ulong)variable.SizeInBytes);
    }

    /// <summary>A stream for calls of managedCuda and its libraries, in order with CudaMoE's own operations on it.</summary>
    public static CudaStream AsCudaStream(this DeviceStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        return new(new CUstream { Pointer = stream.DangerousGetNativeStream() }, false);
    }

    /// <summary>A stream of managedCuda for operations of CudaMoE; not the default stream.</summary>
    /// <exception cref="ArgumentException">The device is not a GPU.</exception>
    public static DeviceStream AsDeviceStream(this CudaStream stream, Device device)
    {
        ArgumentNullException.ThrowIfNull(stream);
        Ordinal(device);
        return device.WrapStream(stream.Stream.Pointer);
    }

    private static CUdeviceptr PointerOf(nint pointer) => new(new SizeT((ulong)pointer));

    /// <summary>N of "cuda:N".</summary>
    private static int Ordinal(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (device.Info.Backend != "cuda")
            throw new ArgumentException($"the device is \"{device.Spec}\"; managedCuda knows GPUs only, opened as \"cuda\" or \"cuda:N\"", nameof(device));
        int colon = device.Spec.IndexOf(':', StringComparison.Ordinal);
        return colon < 0 ? 0 : int.Parse(device.Spec.AsSpan(colon + 1), CultureInfo.InvariantCulture);
    }
}
