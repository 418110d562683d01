using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Models;

/// <summary>
/// A part of the training step that a device repeats as one call: a CUDA graph on a GPU, which saves the launch of each kernel, most of the time of small
/// batches. A run with the key of the run before it is captured, and runs from the capture as long as that key comes.
/// </summary>
internal sealed class StepPart : IDisposable
{
    private readonly LayerContext _context;
    private readonly Func<StepKey> _key;
    private readonly Action _calls;
    private DeviceCapture? _capture;
    private StepKey? _last;

    /// <param name="context">The model's context.</param>
    /// <param name="enabled">Whether captures are to be made; otherwise every run calls.</param>
    /// <param name="key">What the calls depend on; asked before and after them.</param>
    /// <param name="calls">Calls the operations, none of which copies from or to the host.</param>
    public StepPart(LayerContext context, bool enabled, Func<StepKey> key, Action calls)
    {
        _context = context;
        Enabled = enabled;
        _key = key;
        _calls = calls;
    }

    /// <summary>Whether captures are made.</summary>
    public bool Enabled { get; set; }

    /// <summary>Runs the part.</summary>
    public void Run()
    {
        if (!Enabled)
        {
            _calls();
            return;
        }

        if (_last is { } last && last.Equals(_key()))
        {
            // The calls have run once for this key, so that the kernels are loaded.
            bool isNew = _capture == null;
            _capture ??= _context.Stream.Capture(_calls);
            _capture.Launch();
            if (!isNew)
                _context.Replayed();
            return;
        }

        Dispose();
        _calls();
        _last = _key();
    }

    /// <summary>Frees the capture; the next run makes another one when its key comes twice.</summary>
    public void Dispose()
    {
        _capture?.Dispose();
        _capture = null;
        _last = null;
    }
}
