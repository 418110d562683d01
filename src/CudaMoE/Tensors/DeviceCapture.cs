using CudaMoE.Interop;

namespace CudaMoE.Tensors;

/// <summary>A sequence of operations that was captured on a stream, see <see cref="DeviceStream.Capture"/>.</summary>
/// <remarks>Use it from the thread that uses its stream. The memory that its operations name must live as long as it is launched.</remarks>
public sealed class DeviceCapture : IDisposable
{
    private readonly CaptureHandle _handle;

    internal DeviceCapture(DeviceStream stream, CaptureHandle handle)
    {
        Stream = stream;
        _handle = handle;
    }

    /// <summary>The stream that it runs on.</summary>
    public DeviceStream Stream { get; }

    /// <summary>Runs the sequence, in order with the stream's other work.</summary>
    /// <exception cref="NativeException">The device failed, or the stream is being captured.</exception>
    public void Launch()
    {
        ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
        NativeStatus.Check(NativeMethods.CaptureLaunch(_handle.DangerousGetHandle()));
    }

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();
}
