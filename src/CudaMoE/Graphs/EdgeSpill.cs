using System.Runtime.InteropServices;
using CudaMoE.Data;

namespace CudaMoE.Graphs;

/// <summary>
/// Interactions on their way to merged pairs: they go to one of 256 files by the hash of their user, then each file is sorted and merged in memory. Users
/// are numbered file after file, so that the pairs come out user after user; in memory are the users and items, and one file's interactions.
/// </summary>
internal sealed class EdgeSpill : IDisposable
{
    private const int Buckets = 256;
    private const int TaskBits = 4;
    private const int BufferEdges = 1 << 13;
    private readonly string _folder;
    private readonly FileStream?[] _files = new FileStream?[Buckets];
    private readonly ulong[]?[] _buffers = new ulong[Buckets][];
    private readonly int[] _filled = new int[Buckets];
    private readonly int[] _users = new int[Buckets];
    private readonly List<int> _places = [];

    public EdgeSpill(string folder) => _folder = folder;

    /// <summary>The users in the order of their appearance.</summary>
    public NodeIndex Users { get; } = new();

    /// <summary>The items.</summary>
    public NodeIndex Items { get; } = new();

    /// <summary>Interactions taken.</summary>
    public long Count { get; private set; }

    public void Add(ReadOnlySpan<byte> user, ReadOnlySpan<byte> item, int task)
    {
        int u = Users.Add(user, out bool added);
        int bucket = (int)(Users.Hashes[u] >> 56);
        if (added)
            _places.Add(_users[bucket]++);
        int i = Items.Add(item, out _);
        ulong[] buffer = _buffers[bucket] ??= new ulong[BufferEdges];
        buffer[_filled[bucket]++] = ((ulong)(uint)_places[u] << (32 + TaskBits)) | ((ulong)(uint)i << TaskBits) | (uint)task;
        Count++;
        if (_filled[bucket] == BufferEdges)
            Flush(bucket);
    }

    /// <summary>For each user, in the new order, its number in <see cref="Users"/>.</summary>
    public int[] UserOrder()
    {
        int[] starts = new int[Buckets];
        for (int bucket = 1; bucket < Buckets; bucket++)
            starts[bucket] = starts[bucket - 1] + _users[bucket - 1];
        int[] order = new int[Users.Count];
        for (int u = 0; u < order.Length; u++)
            order[starts[(int)(Users.Hashes[u] >> 56)] + _places[u]] = u;
        return order;
    }

    /// <summary>Writes the merged pairs, user after user and item after item.</summary>
    /// <param name="path">The file to make.</param>
    /// <param name="taskPairs">Receives the pairs of each task.</param>
    /// <param name="report">Takes the part that is done.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <returns>[users + 1] first pair of each user.</returns>
    public long[] Merge(string path, long[] taskPairs, Action<double> report, CancellationToken cancellation)
    {
        long[] starts = new long[Users.Count + 1];
        long pairs = 0;
        int user = 0;
        List<Pair> merged = [];
        using FileStream file = new(path, FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 0);
        for (int bucket = 0; bucket < Buckets; bucket++)
        {
            cancellation.ThrowIfCancellationRequested();
            ulong[] edges = Load(bucket);
            edges.AsSpan().Sort();
            merged.Clear();
            int at = 0;
            for (int place = 0; place < _users[bucket]; place++, user++)
            {
                starts[user] = pairs + merged.Count;
                while (at < edges.Length && (int)(edges[at] >> (32 + TaskBits)) == place)
                {
                    ulong key = edges[at] >> TaskBits;
                    int mask = 0;
                    for (; at < edges.Length && edges[at] >> TaskBits == key; at++)
                        mask |= 1 << (int)(edges[at] & ((1 << TaskBits) - 1));
                    merged.Add(new((int)(uint)key, mask));
                    for (int task = 0; task < taskPairs.Length; task++)
                        taskPairs[task] += (mask >> task) & 1;
                }
            }

            pairs += merged.Count;
            file.Write(MemoryMarshal.AsBytes(CollectionsMarshal.AsSpan(merged)));
            report((bucket + 1.0) / Buckets);
        }

        starts[user] = pairs;
        return starts;
    }

    public void Dispose()
    {
        foreach (FileStream? file in _files)
            file?.Dispose();
    }

    private void Flush(int bucket)
    {
        FileStream file = _files[bucket] ??= new(
            Path.Combine(_folder, $"edges.{bucket}"), FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None, bufferSize: 0, FileOptions.DeleteOnClose);
        file.Write(MemoryMarshal.AsBytes(_buffers[bucket].AsSpan(0, _filled[bucket])));
        _filled[bucket] = 0;
    }

    private ulong[] Load(int bucket)
    {
        long spilled = (_files[bucket]?.Length ?? 0) / sizeof(ulong);
        if (spilled + _filled[bucket] > Array.MaxLength)
            throw new DataException($"one of {Buckets} parts of the log has {spilled:N0} interactions; a part has at most {Array.MaxLength:N0}");
        ulong[] edges = new ulong[spilled + _filled[bucket]];
        if (_files[bucket] is { } file)
        {
            file.Position = 0;
            file.ReadExactly(MemoryMarshal.AsBytes(edges.AsSpan(0, (int)spilled)));
            file.Dispose();
            _files[bucket] = null;
        }

        _buffers[bucket]?.AsSpan(0, _filled[bucket]).CopyTo(edges.AsSpan((int)spilled));
        _buffers[bucket] = null;
        return edges;
    }
}
