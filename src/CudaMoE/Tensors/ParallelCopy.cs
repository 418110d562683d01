namespace CudaMoE.Tensors;

/// <summary>
/// Copies within host memory by several threads where there is much to copy: one thread reads a fraction of what a copy to a GPU takes. It allocates
/// nothing after its construction.
/// </summary>
/// <remarks>Not thread-safe.</remarks>
internal sealed unsafe class ParallelCopy : IDisposable
{
    /// <summary>What a thread copies at a time, in about as long as it takes to wake one.</summary>
    private const long ChunkBytes = 512 << 10;

    private const int MostThreads = 16;
    private readonly Helper[] _helpers;
    private readonly CountdownEvent _working = new(1);
    private byte* _source;
    private byte* _destination;
    private long _bytes;
    private long _next;

    public ParallelCopy()
    {
        _helpers = new Helper[Math.Min(Environment.ProcessorCount, MostThreads) - 1];
        for (int i = 0; i < _helpers.Length; i++)
            _helpers[i] = new(this);
    }

    /// <summary>Copies <paramref name="bytes"/>; the ranges may not overlap.</summary>
    public void Run(void* source, void* destination, long bytes)
    {
        int helpers = (int)Math.Min(_helpers.Length, (bytes / ChunkBytes) - 1);
        if (helpers < 1)
        {
            Buffer.MemoryCopy(source, destination, bytes, bytes);
            return;
        }

        _source = (byte*)source;
        _destination = (byte*)destination;
        _bytes = bytes;
        _next = 0;
        _working.Reset(helpers + 1);
        for (int i = 0; i < helpers; i++)
            ThreadPool.UnsafeQueueUserWorkItem(_helpers[i], preferLocal: false);
        CopyChunks();
        _working.Signal();
        _working.Wait();
    }

    /// <inheritdoc/>
    public void Dispose() => _working.Dispose();

    private void CopyChunks()
    {
        while (true)
        {
            long begin = Interlocked.Add(ref _next, ChunkBytes) - ChunkBytes;
            if (begin >= _bytes)
                return;
            long bytes = Math.Min(ChunkBytes, _bytes - begin);
            Buffer.MemoryCopy(_source + begin, _destination + begin, bytes, bytes);
        }
    }

    private sealed class Helper(ParallelCopy copy) : IThreadPoolWorkItem
    {
        public void Execute()
        {
            copy.CopyChunks();
            copy._working.Signal();
        }
    }
}
