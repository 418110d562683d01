using System.Runtime.InteropServices;
using CudaMoE.Interop;
using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>
/// The device's caches of tables in host memory. A batch is announced by <see cref="Prepare"/> before it is looked up; look-ups and updates that are given
/// <see cref="Native"/> find each row where it lies. Who reads or writes a table itself calls <see cref="Release"/> first.
/// </summary>
internal sealed unsafe class TableCaches
{
    private readonly LayerContext _context;
    private readonly EmbeddingTable* _tables;
    private readonly int _tableCount;
    private readonly DeviceBuffer?[] _memory;
    private readonly bool[] _inUse;
    private readonly List<DeviceBuffer> _workspaces = [];
    private long _workspaceBytes;

    /// <param name="context">The context.</param>
    /// <param name="tables">The tables, which must live as long as this.</param>
    /// <param name="rows">Rows that the cache of each table holds; 0 = it has none.</param>
    /// <param name="optimizer">Whose states move with a row.</param>
    /// <param name="names">The tables' names.</param>
    public TableCaches(LayerContext context, EmbeddingTable* tables, IReadOnlyList<long> rows, int optimizer, IReadOnlyList<string> names)
    {
        _context = context;
        _tables = tables;
        _tableCount = rows.Count;
        Names = names;
        _memory = new DeviceBuffer?[rows.Count];
        _inUse = new bool[rows.Count];
        Native = (EmbeddingCache*)NativeMemory.AllocZeroed((nuint)rows.Count, (nuint)sizeof(EmbeddingCache));
        context.OnDispose(Free);
        context.OnReplay(MarkUsed);
        for (int t = 0; t < rows.Count; t++)
        {
            if (rows[t] == 0)
                continue;
            Native[t].Rows = rows[t];
            Native[t].Optimizer = optimizer;
            EmbeddingCacheFlushArgs one = Flush(t);
            long bytes;
            NativeStatus.Check(NativeMethods.EmbeddingCacheBytes(context.Stream.Native, &one, &bytes));
            _memory[t] = context.Device.Allocate(bytes);
            Native[t].Memory = (void*)_memory[t]!.Pointer;
            Native[t].Bytes = bytes;
            Bytes += bytes;
        }
    }

    /// <summary>One for each table, for the argument structs.</summary>
    public EmbeddingCache* Native { get; private set; }

    /// <summary>Device memory of all of them.</summary>
    public long Bytes { get; }

    /// <summary>The tables' names.</summary>
    public IReadOnlyList<string> Names { get; }

    /// <summary>Brings in the rows that a batch looks up.</summary>
    public void Prepare(EmbeddingFeature* features, int featureCount, int rows)
    {
        EmbeddingCachePrepareArgs args = PrepareArgs(features, featureCount, rows);
        ReserveWorkspace(args);
        args.Workspace = _workspaces.Count == 0 ? null : (void*)_workspaces[^1].Pointer;
        args.WorkspaceBytes = _workspaceBytes;
        NativeStatus.Check(NativeMethods.EmbeddingCachePrepare(_context.Stream.Native, &args));
        MarkUsed();
    }

    /// <summary>Makes room for batches as large as this one.</summary>
    public void Reserve(EmbeddingFeature* features, int featureCount, int rows) => ReserveWorkspace(PrepareArgs(features, featureCount, rows));

    /// <summary>Writes the cached rows of a table back and forgets them, in stream order: the table in host memory is then all there is.</summary>
    public void Release(int table)
    {
        if (!_inUse[table])
            return;
        EmbeddingCacheFlushArgs one = Flush(table);
        NativeStatus.Check(NativeMethods.EmbeddingCacheFlush(_context.Stream.Native, &one));
        // All but the counters.
        long counters = sizeof(EmbeddingCacheCounters);
        _context.Stream.Fill(_memory[table]!.Pointer + (nint)counters, 0, _memory[table]!.Bytes - counters);
        _inUse[table] = false;
    }

    /// <summary>Waits for the device and reads the counters of a table's cache; null when it has none.</summary>
    public EmbeddingCacheCounters? ReadCounters(int table)
    {
        if (_memory[table] is not { } memory)
            return null;
        EmbeddingCacheCounters counters;
        _context.Stream.CopyToHost(memory.Pointer, new Span<EmbeddingCacheCounters>(&counters, 1));
        return counters;
    }

    private EmbeddingCacheFlushArgs Flush(int table) => new()
    {
        StructSize = (uint)sizeof(EmbeddingCacheFlushArgs),
        TableCount = 1,
        Tables = _tables + table,
        Caches = Native + table,
    };

    private EmbeddingCachePrepareArgs PrepareArgs(EmbeddingFeature* features, int featureCount, int rows) => new()
    {
        StructSize = (uint)sizeof(EmbeddingCachePrepareArgs),
        TableCount = _tableCount,
        FeatureCount = featureCount,
        Bounds = NativeConstants.BoundsReport,
        Batch = rows,
        Tables = _tables,
        Features = features,
        Caches = Native,
    };

    /// <summary>A larger work space leaves the old one alive: captured operations may hold it.</summary>
    private void ReserveWorkspace(EmbeddingCachePrepareArgs args)
    {
        long bytes;
        NativeStatus.Check(NativeMethods.EmbeddingCachePrepareWorkspace(_context.Stream.Native, &args, &bytes));
        if (bytes <= _workspaceBytes)
            return;
        _workspaces.Add(_context.Device.Allocate(bytes));
        _workspaceBytes = bytes;
    }

    private void MarkUsed()
    {
        for (int t = 0; t < _tableCount; t++)
            _inUse[t] = _memory[t] != null;
    }

    private void Free()
    {
        foreach (DeviceBuffer? memory in _memory)
            memory?.Dispose();
        foreach (DeviceBuffer workspace in _workspaces)
            workspace.Dispose();
        NativeMemory.Free(Native);
        Native = null;
    }
}
