using CudaMoE.Data;
using CudaMoE.Tensors;

namespace CudaMoE.Models;

/// <summary>A forward pass over one batch object that runs as one call, see <see cref="MultiTaskModel.CaptureForward"/>.</summary>
/// <remarks>Not thread-safe, as its model. Dispose it before its model and its batch.</remarks>
public sealed class ForwardCapture : IDisposable
{
    private readonly MultiTaskModel _model;
    private DeviceCapture? _capture;
    private (int Rows, int Rooms, nint Begin) _captured;
    private bool _disposed;

    internal ForwardCapture(MultiTaskModel model, Batch batch)
    {
        _model = model;
        Batch = batch;
    }

    /// <summary>The batch that it reads; fill it, then call <see cref="Run"/>.</summary>
    public Batch Batch { get; }

    /// <summary>As <see cref="MultiTaskModel.Forward"/> in evaluation: the logits of what the batch now holds.</summary>
    public void Run()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        _model.RunCaptured(Batch, ref _capture, ref _captured);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _disposed = true;
        _capture?.Dispose();
        _capture = null;
    }
}
