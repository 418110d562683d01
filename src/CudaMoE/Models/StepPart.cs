using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Models;

/// <summary>
/// A part of the training step that a device repeats as one call: a CUDA graph on a GPU, which saves the launch of each kernel, most of the time of small
/// batches. The second run with a key is captured, and later ones run from the capture. The last few keys are kept: those of whole batches and of the last of an epoch,
/// and of numbers of ids on both sides of a size of room.
/// </summary>
internal sealed class StepPart : IDisposable
{
    private const int Most = 4;

    private readonly LayerContext _context;
    private readonly Func<StepKey> _key;
    private readonly Action _calls;

    // The last used first.
    private readonly List<Entry> _entries = new(Most);

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

        Entry? known = Find(_key());
        if (known == null)
        {
            _calls();
            Remember(_key());
            return;
        }

        // The calls have run once for this key, so that the kernels are loaded.
        bool isNew = known.Capture == null;
        known.Capture ??= _context.Stream.Capture(_calls);
        known.Capture.Launch();
        if (!isNew)
            _context.Replayed();
    }

    /// <summary>Frees the captures.</summary>
    public void Dispose()
    {
        foreach (Entry entry in _entries)
            entry.Capture?.Dispose();
        _entries.Clear();
    }

    private Entry? Find(in StepKey key)
    {
        for (int i = 0; i < _entries.Count; i++)
        {
            Entry entry = _entries[i];
            if (!entry.Key.Equals(key))
                continue;
            _entries.RemoveAt(i);
            _entries.Insert(0, entry);
            return entry;
        }

        return null;
    }

    private void Remember(in StepKey key)
    {
        if (Find(key) != null)
            return;
        if (_entries.Count == Most)
        {
            _entries[^1].Capture?.Dispose();
            _entries.RemoveAt(Most - 1);
        }

        _entries.Insert(0, new Entry(key));
    }

    private sealed class Entry(StepKey key)
    {
        public StepKey Key { get; } = key;

        public DeviceCapture? Capture { get; set; }
    }
}
