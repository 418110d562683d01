using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace CudaMoE.Data;

/// <summary>How a loader goes through a split.</summary>
public sealed record LoaderOptions
{
    /// <summary>Rows of a batch, at least 1.</summary>
    public required int BatchSize { get; init; }

    /// <summary>Whether rows come in the random order of (seed, epoch), or as they lie.</summary>
    public bool Shuffle { get; init; }

    /// <summary>Seed of the order.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>The epoch, at least 0; each has its own order.</summary>
    public long Epoch { get; init; }

    /// <summary>The batch to start with, for resuming within an epoch; equals the tail of a pass from batch 0.</summary>
    public long FirstBatch { get; init; }

    /// <summary>Batches read ahead, at least 1.</summary>
    public int Prefetch { get; init; } = 2;

    /// <summary>Whether a last batch of fewer rows is left out.</summary>
    public bool DropLast { get; init; }
}

/// <summary>
/// Goes once through a split in batches, which a background thread fills ahead. Batches are reused: take one, use it, return it. Order
/// and content depend only on the options. One reader at a time; nothing is allocated on the managed heap after the start.
/// </summary>
public sealed unsafe class BatchLoader : IDisposable
{
    private readonly DatasetSplit _split;
    private readonly LoaderOptions _options;
    private readonly Lock _gate = new();
    private readonly Batch[] _batches;
    private readonly bool[] _taken;
    private readonly BatchQueue _free;
    private readonly BatchQueue _ready;
    private readonly SemaphoreSlim _freeCount;
    private readonly SemaphoreSlim _readyCount;
    private readonly Thread _thread;
    private readonly long[] _rows;
    private readonly byte** _places;
    private int _out;
    private bool _ended;
    private volatile bool _stopping;
    private ExceptionDispatchInfo? _error;
    private bool _disposed;

    internal BatchLoader(DatasetSplit split, LoaderOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.BatchSize, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Prefetch, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(options.Epoch);
        ArgumentOutOfRangeException.ThrowIfNegative(options.FirstBatch);
        _split = split;
        _options = options;
        BatchCount = options.DropLast ? split.Rows / options.BatchSize : (split.Rows + options.BatchSize - 1) / options.BatchSize;
        if (options.FirstBatch > BatchCount)
            throw new ArgumentOutOfRangeException(
                nameof(options), options.FirstBatch, $"FirstBatch must be 0 to {BatchCount}, the batches of an epoch");

        split.Hold();
        // A batch of more rows than the split has would only waste memory.
        int capacity = (int)Math.Max(1, Math.Min(options.BatchSize, split.Rows));
        int count = options.Prefetch + 1;
        _batches = new Batch[count];
        _taken = new bool[count];
        _free = new(count);
        _ready = new(count);
        for (int i = 0; i < count; i++)
            _free.Enqueue(_batches[i] = new(split.Layout, capacity));
        _freeCount = new(count);
        _readyCount = new(0);
        _rows = new long[capacity];
        _places = (byte**)NativeMemory.Alloc((nuint)capacity, (nuint)sizeof(byte*));
        _thread = new(Fill) { IsBackground = true, Name = $"CudaMoE loader ({split.Name})" };
        _thread.Start();
    }

    /// <summary>Batches of a whole epoch.</summary>
    public long BatchCount { get; }

    /// <summary>The next batch; waits for it. It belongs to the caller until it is returned.</summary>
    /// <returns>False when the epoch is over.</returns>
    /// <exception cref="InvalidOperationException">All batches are out, so none could ever come.</exception>
    /// <exception cref="ObjectDisposedException">The loader is disposed.</exception>
    public bool TryTake([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out Batch? batch)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        batch = null;
        if (_ended)
            return false;
        if (_out == _batches.Length)
            throw new InvalidOperationException($"all {_out} batches of the loader are out; return one first, or raise Prefetch");
        _readyCount.Wait();
        lock (_gate)
        {
            if (_ready.Count == 0)
            {
                _ended = true;
                _error?.Throw();
                return false;
            }

            batch = _ready.Dequeue();
        }

        _taken[Array.IndexOf(_batches, batch)] = true;
        _out++;
        return true;
    }

    /// <summary>Gives a batch back to be filled again.</summary>
    /// <exception cref="ArgumentException">It is not out of this loader.</exception>
    public void Return(Batch batch)
    {
        if (_disposed)
            return;
        int index = Array.IndexOf(_batches, batch);
        if (index < 0 || !_taken[index])
            throw new ArgumentException("the batch is not out of this loader", nameof(batch));
        _taken[index] = false;
        _out--;
        lock (_gate)
            _free.Enqueue(batch);
        _freeCount.Release();
    }

    /// <summary>Stops the thread and frees all batches, those that are out as well.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _stopping = true;
        _freeCount.Release();
        _thread.Join();
        foreach (Batch batch in _batches)
            batch.Dispose();
        NativeMemory.Free(_places);
        _freeCount.Dispose();
        _readyCount.Dispose();
        _split.Release();
    }

    // The thread: fills free batches in order, until the epoch or the loader ends.
    private void Fill()
    {
        try
        {
            Permutation order = new(_split.Rows, _options.Seed, (ulong)_options.Epoch);
            for (long index = _options.FirstBatch; index < BatchCount; index++)
            {
                _freeCount.Wait();
                if (_stopping)
                    return;
                Batch batch;
                lock (_gate)
                    batch = _free.Dequeue();
                FillBatch(batch, index, order);
                lock (_gate)
                    _ready.Enqueue(batch);
                _readyCount.Release();
            }
        }
        catch (Exception error)
        {
            _error = ExceptionDispatchInfo.Capture(error);
        }

        // Wakes the reader with nothing ready: the end.
        _readyCount.Release();
    }

    private void FillBatch(Batch batch, long index, Permutation order)
    {
        long first = index * _options.BatchSize;
        Span<long> rows = _rows.AsSpan(0, (int)Math.Min(_options.BatchSize, _split.Rows - first));
        for (int i = 0; i < rows.Length; i++)
        {
            rows[i] = _options.Shuffle ? order[first + i] : first + i;
            _places[i] = _split.Place(rows[i]);
        }

        _split.Gather(rows, _places, batch);
        batch.Index = index;
    }

    /// <summary>A ring of as many batches as the loader has.</summary>
    private sealed class BatchQueue(int capacity)
    {
        private readonly Batch[] _items = new Batch[capacity];
        private int _first;

        public int Count { get; private set; }

        public void Enqueue(Batch batch) => _items[(_first + Count++) % _items.Length] = batch;

        public Batch Dequeue()
        {
            Batch batch = _items[_first];
            _first = (_first + 1) % _items.Length;
            Count--;
            return batch;
        }
    }
}
