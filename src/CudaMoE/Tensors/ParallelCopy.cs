namespace CudaMoE.Tensors;

/// <summary>
/// Copies within host memory by several threads where there is much to copy: one thread reads a fraction of what a copy to a GPU takes. It allocates
/// nothing after its construction.
/// </summary>
/// <remarks>Not thread-safe.</remarks>
internal sealed unsafe class ParallelCopy
{
    /// <summary>What a thread copies at a time, in about as long as it takes to wake one.</summary>
    private const long ChunkBytes = 512 << 10;

    private const int MostThreads = 16;
    private readonly Helper[] _helpers;
    private readonly Action<IThreadPoolWorkItem> _queue;
    private readonly object _finished = new();
    private byte* _source;
    private byte* _destination;
    private long _bytes;
    private int _toTake;
    private int _toFinish;

    /// <param name="queue">Has an item run on another thread, some time; null = the thread pool does.</param>
    /// <param name="helpers">Most threads beside the caller's; null = by the processors.</param>
    public ParallelCopy(Action<IThreadPoolWorkItem>? queue = null, int? helpers = null)
    {
        _queue = queue ?? (static item => ThreadPool.UnsafeQueueUserWorkItem(item, preferLocal: false));
        _helpers = new Helper[helpers ?? (Math.Min(Environment.ProcessorCount, MostThreads) - 1)];
        for (int i = 0; i < _helpers.Length; i++)
            _helpers[i] = new(this);
    }

    /// <summary>Copies <paramref name="bytes"/>; the ranges may not overlap. It waits for no thread that has not begun: where the pool has none, the caller copies all.</summary>
    public void Run(void* source, void* destination, long bytes)
    {
        int helpers = (int)Math.Min(_helpers.Length, (bytes / ChunkBytes) - 1);
        if (helpers < 1)
        {
            Buffer.MemoryCopy(source, destination, bytes, bytes);
            return;
        }

        int chunks = checked((int)((bytes + ChunkBytes - 1) / ChunkBytes));
        _source = (byte*)source;
        _destination = (byte*)destination;
        _bytes = bytes;
        _toFinish = chunks;
        Volatile.Write(ref _toTake, chunks);
        for (int i = 0; i < helpers; i++)
            _helpers[i].Queue();
        CopyChunks();
        lock (_finished)
        {
            while (Volatile.Read(ref _toFinish) != 0)
                Monitor.Wait(_finished);
        }
    }

    // A chunk that was taken is of the copy that runs, which does not end before it is finished: a helper that comes late, even from an
    // earlier copy, finds nothing to take or helps with this one.
    private void CopyChunks()
    {
        while (true)
        {
            int left = Volatile.Read(ref _toTake);
            if (left == 0)
                return;
            if (Interlocked.CompareExchange(ref _toTake, left - 1, left) != left)
                continue;
            long begin = (left - 1) * ChunkBytes;
            long bytes = Math.Min(ChunkBytes, _bytes - begin);
            Buffer.MemoryCopy(_source + begin, _destination + begin, bytes, bytes);
            if (Interlocked.Decrement(ref _toFinish) != 0)
                continue;
            lock (_finished)
                Monitor.Pulse(_finished);
        }
    }

    private sealed class Helper(ParallelCopy copy) : IThreadPoolWorkItem
    {
        private int _queued;

        public void Queue()
        {
            if (Interlocked.Exchange(ref _queued, 1) == 0)
                copy._queue(this);
        }

        public void Execute()
        {
            Volatile.Write(ref _queued, 0);
            copy.CopyChunks();
        }
    }
}
