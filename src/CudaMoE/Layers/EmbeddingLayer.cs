using System.Runtime.InteropServices;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Interop;
using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>
/// The feature row: pooled embeddings of all categorical features side by side, in the order of the features, then the dense numbers. A sequence has the
/// columns of its positions side by side, zeros behind its last value. The backward is the fused update of the tables' touched rows.
/// With units there are tables and such a row for each unit, the units' rows side by side.
/// </summary>
internal sealed unsafe class EmbeddingLayer
{
    private readonly LayerContext _context;
    private readonly DeviceBatch _batch;
    private readonly DenseColumns[] _dense;
    private readonly int _units;
    private readonly BatchLayout _layout;
    private readonly OptimizerDescription _optimizer;
    private readonly ulong _seed;
    private readonly int _tableCount;
    private readonly int _featureCount;
    private readonly long[] _columns;
    private readonly TableCaches? _caches;
    private EmbeddingTable* _tables;
    private EmbeddingFeature* _features;
    private EmbeddingForwardArgs _forward;
    private EmbeddingUpdateArgs _update;
    private DeviceBuffer? _workspace;
    private long _workspaceBytes;
    private int _rows;

    /// <param name="context">The context.</param>
    /// <param name="description">The model.</param>
    /// <param name="layout">The inputs.</param>
    /// <param name="batch">Where they are.</param>
    /// <param name="units">Names of units with tables of their own; empty = one set of tables.</param>
    public EmbeddingLayer(LayerContext context, ModelDescription description, BatchLayout layout, DeviceBatch batch, IReadOnlyList<string> units)
    {
        context.OnDispose(Free);
        _context = context;
        _batch = batch;
        _layout = layout;
        _optimizer = description.Training.EmbeddingOptimizer;
        _seed = description.Training.Seed;
        EmbeddingWidth = layout.Sparse.Sum(s => s.Width);
        _units = Math.Max(1, units.Count);
        MaxLookups = _units * layout.Sparse.Sum(s => (long)context.MaxRows * Math.Max(1, s.MaxLength));
        WidestTable = layout.Sparse.Select(s => s.Dimension).DefaultIfEmpty(0).Max();
        UnitWidth = EmbeddingWidth + layout.DenseWidth;
        Output = context.Reserve("features", UnitWidth * _units);
        _dense = [.. Enumerable.Range(0, _units).Select(unit => new DenseColumns(context, layout.DenseWidth, Output.Slice((unit * UnitWidth) + EmbeddingWidth, layout.DenseWidth)))];
        if (context.Training && EmbeddingWidth > 0)
            OutputGradient = context.Reserve("features.gradient", Output.Columns);

        List<SparseInput> tables = [.. layout.Sparse.GroupBy(s => s.Table).Select(g => g.First())];
        _tableCount = tables.Count * _units;
        _tables = (EmbeddingTable*)NativeMemory.AllocZeroed((nuint)Math.Max(_tableCount, 1), (nuint)sizeof(EmbeddingTable));
        _featureCount = layout.Sparse.Sum(s => Math.Max(1, s.Positions)) * _units;
        _features = (EmbeddingFeature*)NativeMemory.AllocZeroed((nuint)Math.Max(_featureCount, 1), (nuint)sizeof(EmbeddingFeature));
        bool bf16 = description.Architecture.EmbeddingPrecision == Precision.Bf16;
        string[] names = new string[_tableCount];
        long[] cacheRows = new long[_tableCount];
        for (int t = 0; t < _tableCount; t++)
        {
            SparseInput table = tables[t % tables.Count];
            TableStorage? storage = Storage(description, table.Table);
            names[t] = units.Count == 0 ? table.Table : $"{units[t / tables.Count]}.{table.Table}";
            cacheRows[t] = Ways(Math.Min(storage?.CacheRows ?? 0, table.Rows));
            AddTable(t, names[t], table, bf16, storage?.Place == StoragePlace.Host);
        }

        if (cacheRows.Any(rows => rows > 0))
            _caches = new(context, _tables, cacheRows, context.Training ? NativeOptimizer(_optimizer.Type) : NativeOptimizer(OptimizerType.Sgd), names);
        _columns = new long[layout.Sparse.Count];
        int feature = 0;
        for (int unit = 0; unit < _units; unit++)
            AddFeatures(tables, unit, ref feature);
        context.OnBind(Bind);
    }

    /// <summary>Columns of a unit's row.</summary>
    public long UnitWidth { get; }

    /// <summary>Columns of a unit's row that come from tables.</summary>
    public long EmbeddingWidth { get; }

    /// <summary>[rows, units * (embedding width + dense width)].</summary>
    public Slot Output { get; }

    /// <summary>First column of an input in a unit's row.</summary>
    public long Column(int input) => _columns[input];

    /// <summary>[rows] values of a sequence's samples, in device memory, after the last forward.</summary>
    public int* Lengths(int input) => _batch.Lengths(input);

    /// <summary>Gradient of <see cref="Output"/>; the table columns are what <see cref="Update"/> reads. Null when there are no tables.</summary>
    public Slot? OutputGradient { get; }

    /// <summary>Look-ups of the loaded batch, those of all features together, with those behind the last bags that are none.</summary>
    public long Lookups { get; private set; }

    /// <summary>The most look-ups of a batch.</summary>
    public long MaxLookups { get; }

    /// <summary>Columns of the widest table.</summary>
    public int WidestTable { get; }

    /// <summary>Number of tables.</summary>
    public int Tables => _tableCount;

    /// <summary>Device memory of the caches of tables in host memory.</summary>
    public long CacheBytes => _caches?.Bytes ?? 0;

    /// <summary>What the caches of tables in host memory did so far; empty when there are none. Waits for the device.</summary>
    public IReadOnlyList<TableCacheCounts> ReadCaches()
    {
        List<TableCacheCounts> counts = [];
        for (int t = 0; t < _tableCount; t++)
        {
            if (_caches?.ReadCounters(t) is { } c)
                counts.Add(new(_caches.Names[t], _caches.Native[t].Rows, c.Batches, c.Hits, c.Misses, c.Bypasses, c.Evictions, c.BytesIn, c.BytesOut));
        }

        return counts;
    }

    /// <summary>Makes a batch readable to <see cref="Forward"/>.</summary>
    public void Load(Batch batch)
    {
        _batch.LoadFeatures(batch);
        int f = 0;
        for (int i = 0; i < _layout.Sparse.Count * _units; i++)
        {
            int input = i % _layout.Sparse.Count;
            if (_batch.Sequence(input) is not { } sequence)
            {
                _features[f].Ids = _batch.Ids(input);
                _features[f].Offsets = _batch.Offsets(input);
                _features[f++].Lookups = _batch.Room(input);
                continue;
            }

            for (int position = 0; position < _layout.Sparse[input].Positions; position++, f++)
            {
                _features[f].Ids = _batch.Ids(input) + sequence.Start(position);
                _features[f].Offsets = _batch.Offsets(input) + (position * (batch.Rows + 1L));
                _features[f].Lookups = sequence.Start(position + 1) - sequence.Start(position);
            }
        }

        _rows = batch.Rows;
        Lookups = 0;
        for (int i = 0; i < _featureCount; i++)
            Lookups += _features[i].Lookups;
        _forward.Batch = _rows;
        foreach (DenseColumns dense in _dense)
            dense.Load(_batch.Dense, _rows);
    }

    /// <summary>Looks up what was loaded.</summary>
    public void Forward()
    {
        if (EmbeddingWidth > 0)
        {
            _caches?.Prepare(_features, _featureCount, _rows);
            fixed (EmbeddingForwardArgs* args = &_forward)
                NativeStatus.Check(NativeMethods.EmbeddingForward(_context.Stream.Native, args));
        }

        foreach (DenseColumns dense in _dense)
            dense.Run();
    }

    /// <summary>Work space of the updates, which grows with the batches; captured updates hold it.</summary>
    public nint UpdateWorkspace => _workspace?.Pointer ?? 0;

    /// <summary>Applies the optimiser to the rows that the last forward touched, unless <paramref name="norm"/> is not finite.</summary>
    /// <param name="numbers">Rate and number of the step, in device memory.</param>
    /// <param name="norm">In device memory; null = always.</param>
    public void Update(StepNumbers* numbers, double* norm)
    {
        if (EmbeddingWidth == 0)
            return;
        _update.Batch = _rows;
        _update.Norm = norm;
        _update.Numbers = numbers;
        fixed (EmbeddingUpdateArgs* args = &_update)
        {
            long bytes;
            NativeStatus.Check(NativeMethods.EmbeddingUpdateWorkspace(_context.Stream.Native, args, &bytes));
            if (bytes > _workspaceBytes)
                GrowWorkspace(bytes);
            _update.Workspace = (void*)UpdateWorkspace;
            _update.WorkspaceBytes = _workspaceBytes;
            NativeStatus.Check(NativeMethods.EmbeddingUpdate(_context.Stream.Native, args));
        }
    }

    /// <summary>
    /// The rows of the tables' gradient, those of one id added up, where <see cref="OutputGradient"/> is that of the row: table after table, each in as many
    /// places as it has look-ups, its touched rows in ascending order first. What is behind them is not written.
    /// </summary>
    /// <param name="rows">[look-ups] receives the touched rows.</param>
    /// <param name="values">[look-ups, <see cref="WidestTable"/>] receives their gradients.</param>
    /// <param name="counts">[tables] receives how many they are.</param>
    public void MergedGradient(int* rows, float* values, long* counts)
    {
        EmbeddingGradientArgs args = new()
        {
            StructSize = (uint)sizeof(EmbeddingGradientArgs),
            TableCount = _tableCount,
            FeatureCount = _featureCount,
            Batch = _rows,
            Tables = _tables,
            Features = _features,
            Gradient = OutputGradient!.Data,
            GradientRowStride = OutputGradient.RowStride,
            UniqueRows = rows,
            Values = values,
            ValuesRowStride = WidestTable,
            Counts = counts,
        };
        long bytes;
        NativeStatus.Check(NativeMethods.EmbeddingGradientWorkspace(_context.Stream.Native, &args, &bytes));
        if (bytes > _workspaceBytes)
            GrowWorkspace(bytes);
        args.Workspace = (void*)UpdateWorkspace;
        args.WorkspaceBytes = _workspaceBytes;
        NativeStatus.Check(NativeMethods.EmbeddingGradient(_context.Stream.Native, &args));
    }

    /// <summary>Name, rows and dimension of each table.</summary>
    public IEnumerable<(string Name, long Rows, int Dimension)> TableShapes =>
        _context.Parameters.All.Where(p => p.Kind == ParameterKind.Embedding).Select(p => (p.Name, p.Shape[0], (int)p.Shape[1]));

    /// <summary>Columns of <see cref="Output"/> that come from tables, as slices of a matrix of its shape.</summary>
    public IEnumerable<Slot> TableColumns(Slot matrix) => Enumerable.Range(0, _units).Select(unit => matrix.Slice(unit * UnitWidth, EmbeddingWidth));

    /// <summary>Looks up what was loaded in other tables of the same shapes; the columns of dense numbers are not written.</summary>
    public void Lookup(EmbeddingTable* tables, Slot output)
    {
        EmbeddingForwardArgs args = _forward with { Tables = tables, Output = (void*)output.Pointer, OutputRowStride = output.RowStride };
        NativeStatus.Check(NativeMethods.EmbeddingForward(_context.Stream.Native, &args));
    }

    /// <summary>Applies an optimiser, at the learning rate 1, to the touched rows of other tables of the same shapes.</summary>
    /// <param name="tables">The tables and their states.</param>
    /// <param name="gradient">Gradient of the row.</param>
    /// <param name="optimizer">0 SGD, 1 AdaGrad.</param>
    /// <param name="gradientScale">Multiplies the gradient.</param>
    /// <param name="epsilon">AdaGrad's.</param>
    public void Apply(EmbeddingTable* tables, Slot gradient, int optimizer, float gradientScale, float epsilon)
    {
        EmbeddingUpdateArgs args = _update with
        {
            Tables = tables,
            Optimizer = optimizer,
            Batch = _rows,
            Gradient = gradient.Data,
            GradientRowStride = gradient.RowStride,
            LearningRate = 1,
            Epsilon = epsilon,
            WeightDecay = 0,
            GradientScale = gradientScale,
            Step = 1,
            Norm = null,
            Numbers = null,
        };
        long bytes;
        NativeStatus.Check(NativeMethods.EmbeddingUpdateWorkspace(_context.Stream.Native, &args, &bytes));
        if (bytes > _workspaceBytes)
            GrowWorkspace(bytes);
        args.Workspace = (void*)UpdateWorkspace;
        args.WorkspaceBytes = _workspaceBytes;
        NativeStatus.Check(NativeMethods.EmbeddingUpdate(_context.Stream.Native, &args));
    }

    /// <summary>Adds the gradient of the last forward's look-ups to dense matrices, one a table, [rows, dimension] without gaps.</summary>
    public void DenseGradients(IReadOnlyList<float[]> gradients)
    {
        if (EmbeddingWidth == 0)
            return;
        long lookups = Lookups;
        int width = WidestTable;
        using DeviceBuffer rows = _context.Device.Allocate(lookups * sizeof(int));
        using DeviceBuffer values = _context.Device.Allocate(lookups * width * sizeof(float));
        using DeviceBuffer counts = _context.Device.Allocate((long)_tableCount * sizeof(long));
        MergedGradient((int*)rows.Pointer, (float*)values.Pointer, (long*)counts.Pointer);
        long[] uniques = new long[_tableCount];
        int[] uniqueRows = new int[lookups];
        float[] sums = new float[lookups * width];
        _context.Stream.Synchronize();
        _context.Stream.CopyToHost<long>(counts.Pointer, uniques);
        _context.Stream.CopyToHost<int>(rows.Pointer, uniqueRows);
        _context.Stream.CopyToHost<float>(values.Pointer, sums);
        long start = 0;
        for (int t = 0; t < _tableCount; t++)
        {
            int dimension = _tables[t].Dim;
            for (long i = 0; i < uniques[t]; i++)
            {
                long row = uniqueRows[start + i];
                for (int j = 0; j < dimension; j++)
                    gradients[t][(row * dimension) + j] += sums[((start + i) * width) + j];
            }

            for (int f = 0; f < _featureCount; f++)
            {
                if (_features[f].Table == t)
                    start += _features[f].Lookups;
            }
        }
    }

    private void Free()
    {
        _workspace?.Dispose();
        NativeMemory.Free(_tables);
        NativeMemory.Free(_features);
        _tables = null;
        _features = null;
    }

    private void AddFeatures(List<SparseInput> tables, int unit, ref int feature)
    {
        long column = unit * UnitWidth;
        for (int input = 0; input < _layout.Sparse.Count; input++)
        {
            SparseInput sparse = _layout.Sparse[input];
            if (unit == 0)
                _columns[input] = column;
            for (int position = 0; position < Math.Max(1, sparse.Positions); position++, feature++)
            {
                _features[feature] = new()
                {
                    BagSize = 1,
                    Table = (unit * tables.Count) + tables.FindIndex(t => t.Table == sparse.Table),
                    Pooling = (int)sparse.Pooling,
                    Column = column,
                };
                column += sparse.Dimension;
            }
        }
    }

    private static TableStorage? Storage(ModelDescription description, string table) =>
        description.Features.FirstOrDefault(f => f.Dimension != null && (f.Table ?? f.Name) == table)?.Storage;

    private static long Ways(long rows) => (rows + NativeConstants.EmbeddingCacheWays - 1) / NativeConstants.EmbeddingCacheWays * NativeConstants.EmbeddingCacheWays;

    private static int NativeOptimizer(OptimizerType type) => type switch
    {
        OptimizerType.Sgd => 0,
        OptimizerType.Adagrad => 1,
        OptimizerType.RowwiseAdagrad => 2,
        OptimizerType.RowwiseAdam => 4,
        _ => throw new DescriptionException($"training.embedding_optimizer.type is {type}; it must be sgd, adagrad, rowwise_adagrad or rowwise_adam"),
    };

    private void AddTable(int index, string name, SparseInput input, bool bf16, bool onHost)
    {
        long elements = checked((long)input.Rows * input.Dimension);
        DeviceBuffer weights = Allocate(elements * (bf16 ? 2 : sizeof(float)), onHost);
        (long state1, long state2) = (_context.Training, _optimizer.Type) switch
        {
            (false, _) or (_, OptimizerType.Sgd) => (0L, 0L),
            (_, OptimizerType.RowwiseAdagrad) => (input.Rows, 0L),
            (_, OptimizerType.Adagrad) => (elements, 0L),
            _ => (elements, input.Rows),
        };
        DeviceBuffer? first = state1 == 0 ? null : Allocate(state1 * sizeof(float), onHost);
        DeviceBuffer? second = state2 == 0 ? null : Allocate(state2 * sizeof(float), onHost);
        _tables[index] = new()
        {
            Weights = (void*)weights.Pointer,
            Rows = input.Rows,
            RowStride = input.Dimension,
            State1 = first == null ? null : (float*)first.Pointer,
            State2 = second == null ? null : (float*)second.Pointer,
            Dim = input.Dimension,
            Dtype = bf16 ? NativeConstants.Bf16 : NativeConstants.F32,
        };
        Parameter parameter = new(
            $"embeddings.{name}.weight",
            ParameterKind.Embedding,
            bf16 ? ElementType.Bf16 : ElementType.F32,
            [input.Rows, input.Dimension],
            () => Whole(index, weights),
            () => 0,
            () => Whole(index, first),
            () => Whole(index, second))
        {
            State1Count = state1,
            State2Count = state2,
            OnHost = onHost,
        };
        _context.Parameters.AddTable(parameter);
    }

    /// <summary>The address of a table or state, which then has what its cache had.</summary>
    private nint Whole(int table, DeviceBuffer? memory)
    {
        _caches?.Release(table);
        return memory?.Pointer ?? 0;
    }

    private DeviceBuffer Allocate(long bytes, bool onHost) => _context.Own(onHost ? _context.Device.AllocateMapped(bytes) : _context.Device.Allocate(bytes));

    private void GrowWorkspace(long bytes)
    {
        // The last update may still use the old one.
        _context.Stream.Synchronize();
        _workspace?.Dispose();
        _workspace = null;
        _workspaceBytes = 0;
        _workspace = _context.Device.Allocate(bytes);
        _workspaceBytes = bytes;
    }

    private void Bind()
    {
        _forward = new()
        {
            StructSize = (uint)sizeof(EmbeddingForwardArgs),
            TableCount = _tableCount,
            FeatureCount = _featureCount,
            Tables = _tables,
            Features = _features,
            Output = (void*)Output.Pointer,
            OutputRowStride = Output.RowStride,
            Bounds = NativeConstants.BoundsReport,
            Caches = _caches == null ? null : _caches.Native,
        };
        ReserveForLargest();
        if (OutputGradient == null)
            return;
        _update = new()
        {
            StructSize = (uint)sizeof(EmbeddingUpdateArgs),
            TableCount = _tableCount,
            FeatureCount = _featureCount,
            Optimizer = NativeOptimizer(_optimizer.Type),
            Tables = _tables,
            Features = _features,
            Gradient = OutputGradient.Data,
            GradientRowStride = OutputGradient.RowStride,
            Epsilon = _optimizer.Epsilon,
            Beta1 = _optimizer.Beta1,
            Beta2 = _optimizer.Beta2,
            WeightDecay = _optimizer.WeightDecay,
            GradientScale = 1,
            Seed = _seed,
            Bounds = NativeConstants.BoundsReport,
            Caches = _caches == null ? null : _caches.Native,
        };
    }

    /// <summary>Work space for the caches, so that steps do not allocate.</summary>
    private void ReserveForLargest()
    {
        if (_caches == null)
            return;
        int f = 0;
        for (int i = 0; i < _layout.Sparse.Count * _units; i++)
        {
            SparseInput input = _layout.Sparse[i % _layout.Sparse.Count];
            for (int position = 0; position < Math.Max(1, input.Positions); position++)
                _features[f++].Lookups = Math.Min((long)_context.MaxRows * (input.Positions > 0 ? 1 : Math.Max(1, input.MaxLength)), int.MaxValue);
        }

        _caches.Reserve(_features, _featureCount, _context.MaxRows);
    }
}
