using CudaMoE.Balancing;
using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Models;

/// <summary>
/// Each task's gradient of the parameters below the towers, kept side by side for a batch: dense ones as they lie in the parameters' block of gradients, tables as the
/// gradient of the feature row that their look-ups made. Gives the Gram matrix of what several tasks share, and the weighted sum of all.
/// </summary>
/// <remarks>
/// <para>Parameters that one task's tower alone reads (<see cref="Trunk.OwnOfTasks"/>) have no part in the Gram matrix; they get the plain sum of the gradients, which is
/// that task's, unless the towers' parameters are weighted too.</para>
/// <para>Tables: a gradient of the feature row says what each look-up adds to its row; look-ups of one id are added up before products are taken
/// (<see cref="EmbeddingLayer.MergedGradient"/>), so the products are those of the tables' gradients, without a matrix of the tables' size.</para>
/// <para>Memory in f32: tasks * (dense parameters below the towers + largest batch * (feature row + look-ups of a sample * widest table)), and once more the first two where
/// gates have losses of their own. With halves twice as much; with vectors that are kept (<see cref="SharedVectors"/>) the same once more and copies of the tables.</para>
/// </remarks>
internal sealed unsafe class SharedGradients
{
    private const long Lane = 16;

    private readonly LayerContext _context;
    private readonly EmbeddingLayer _embedding;
    private readonly IReadOnlyList<TaskParameters> _ownNames;
    private readonly int _tasks;
    private readonly long _dense;
    private readonly long _stride;
    private readonly Slot? _rows;
    private readonly long _rowsStride;
    private readonly List<Range> _shared = [];
    private readonly List<Range> _own = [];
    private nint _kept;
    private nint _merged;
    private nint _touched;
    private nint _counts;
    private nint _grams;
    private nint _factors;
    private readonly int _gramsReserved;
    private readonly double[] _partial;
    private double[] _partials = [];
    private readonly double[] _products;
    private readonly double[] _gram;
    private readonly Slot? _firstRows;
    private readonly Slot[] _leadingRows = [];
    private readonly Slot[] _keptRows = [];
    private readonly Slot[] _tableColumns = [];
    private readonly int _leading;
    private readonly int _halves;

    /// <param name="context">The context.</param>
    /// <param name="embedding">The tables.</param>
    /// <param name="trunk">Says what belongs to single tasks.</param>
    /// <param name="tasks">Tasks.</param>
    /// <param name="dense">Elements of the dense blocks below the towers: the first of the parameter set.</param>
    /// <param name="auxiliary">Whether gates have losses of their own, whose gradient is kept beside the tasks'.</param>
    /// <param name="use">What the balancer does with the gradients beside their Gram matrix: halves are two parts a task, and vectors that are kept lie before the parts.</param>
    public SharedGradients(LayerContext context, EmbeddingLayer embedding, Trunk trunk, int tasks, long dense, bool auxiliary, VectorUse use)
    {
        _halves = use == VectorUse.Halves ? 2 : 1;
        _leading = use is VectorUse.Tracked or VectorUse.Squares ? tasks : 0;
        _context = context;
        _embedding = embedding;
        _ownNames = [.. trunk.OwnOfTasks];
        _tasks = tasks;
        _dense = dense;
        _stride = (dense + Lane - 1) / Lane * Lane;
        HasAuxiliary = auxiliary;
        _partial = new double[Vectors * Vectors];
        _products = new double[TaskParts * TaskParts];
        _gram = new double[tasks * tasks];
        Arena arena = context.Activations;
        arena.Reserve("shared.kept", checked(Vectors * _stride * sizeof(float)), p => _kept = p);
        if (embedding.OutputGradient is { } row)
        {
            _rows = Slot.ReserveExact(arena, "shared.rows", (long)Vectors * context.MaxRows, row.Columns, row.RowStride);
            _rowsStride = context.MaxRows * row.RowStride;
            Slot[] rows = [.. Enumerable.Range(0, Vectors).Select(RowsOf)];
            _leadingRows = rows[.._leading];
            _keptRows = rows[_leading..];
            _firstRows = _keptRows[0];
            _tableColumns = [.. embedding.TableColumns(rows[0])];
            arena.Reserve("shared.merged", checked(TaskParts * MergedSize * sizeof(float)), p => _merged = p);
            arena.Reserve("shared.touched", embedding.MaxLookups * sizeof(int), p => _touched = p);
            arena.Reserve("shared.counts", (long)embedding.Tables * sizeof(long), p => _counts = p);
        }

        // One of each range, which are parameters or runs of neighbouring ones and what is between them, and one of the tables.
        _gramsReserved = (2 * context.Parameters.All.Count) + 2;
        arena.Reserve("shared.grams", (long)_gramsReserved * Vectors * Vectors * sizeof(double), p => _grams = p);
        arena.Reserve("shared.factors", (((long)(tasks + 1) * (tasks + 1)) + (2 * Parts)) * sizeof(float), p => _factors = p);
        context.OnBind(Bind);
    }

    /// <summary>Whether a last part holds the gradient of the gates' own losses.</summary>
    public bool HasAuxiliary { get; }

    /// <summary>Whether some parameters below the towers belong to single tasks.</summary>
    public bool HasOwn => _own.Count > 0;

    /// <summary>Rows of the batch whose gradients are kept; said by the model, since the calls that keep them may be a capture's.</summary>
    public long Rows { get; set; }

    /// <summary>The last Gram matrix, [tasks, tasks].</summary>
    public ReadOnlySpan<double> LastGram => _gram;

    /// <summary>Kept gradients of tasks: one a task, or one for each of a task's halves, those of the first half first.</summary>
    public int TaskParts => _halves * _tasks;

    /// <summary>Vectors that are kept from step to step, before the parts.</summary>
    public int Leading => _leading;

    /// <summary>Where neighbouring shared elements are, as ranges of one flat vector.</summary>
    public List<Range> SharedRanges => _shared;

    /// <summary>Elements from one vector to the next, of the dense parameters.</summary>
    public long Stride => _stride;

    /// <summary>Vectors that lie side by side: the leading ones, then the parts.</summary>
    public int Vectors => _leading + Parts;

    /// <summary>Products of the parts, [<see cref="TaskParts"/>, the same], of the last Gram matrix with halves.</summary>
    public ReadOnlySpan<double> HalfProducts => _products;

    /// <summary>The feature row of a leading vector's tables; only where there are tables.</summary>
    public Slot LeadingRows(int task) => _leadingRows[task];

    /// <summary>The kept gradient of the feature row; only where there are tables.</summary>
    public Slot KeptRows(int part) => _keptRows[part];

    /// <summary>Device address of the leading vectors' dense elements, each <see cref="Stride"/> long.</summary>
    public nint LeadingDense => _kept;

    /// <summary>Whether there are tables.</summary>
    public bool HasTables => _rows != null;

    /// <summary>Factors 1, one a part, in device memory.</summary>
    private float* Ones => (float*)_factors + ((_tasks + 1) * (_tasks + 1));

    private float* PartWeights => Ones + Parts;

    private int Parts => TaskParts + (HasAuxiliary ? 1 : 0);

    private long MergedSize => _embedding.MaxLookups * _embedding.WidestTable;

    /// <summary>Factors that leave one task, 1, and no other; with the number of tasks: none. In device memory.</summary>
    public float* Only(int task) => (float*)_factors + (task * (_tasks + 1));

    /// <summary>Keeps the gradients that stand in the parameters' block and in the feature row's as those of a part: a task's, or behind the tasks the gates'.</summary>
    public void Keep(long rows, int part)
    {
        CopyDense(_shared, part, restore: false);
        CopyDense(_own, part, restore: false);
        if (_rows == null)
            return;
        Slot row = _embedding.OutputGradient!;
        _context.Stream.CopyOnDevice(row.Pointer, _keptRows[part].Pointer, rows * row.RowStride * sizeof(float));
        if (part == TaskParts || _embedding.Lookups == 0)
            return;
        float* merged = (float*)_merged + (part * MergedSize);
        _context.Stream.Fill((nint)merged, 0, _embedding.Lookups * _embedding.WidestTable * sizeof(float));
        _embedding.MergedGradient((int*)_touched, merged, (long*)_counts);
    }

    /// <summary>Forms the inner products of the kept tasks' gradients of all that is shared, in device memory.</summary>
    public void RunGram()
    {
        double* products = (double*)_grams;
        foreach (Range range in _shared)
        {
            BalanceOperations.GramOf(_context, range.Kept[0], _stride, TaskParts, rows: 1, products);
            products += TaskParts * TaskParts;
        }

        if (HasMerged)
            BalanceOperations.GramOf(_context, MergedSlot, MergedSize, TaskParts, _embedding.Lookups, products);
    }

    /// <summary>What <see cref="RunGram"/> has formed, [tasks, tasks]; waits for the device.</summary>
    public void ReadGram(Span<double> gram)
    {
        int count = TaskParts * TaskParts, grams = _shared.Count + (HasMerged ? 1 : 0);
        _context.Stream.CopyToHost(_grams, _partials.AsSpan(0, grams * count));
        Array.Clear(_products);
        for (int i = 0; i < grams * count; i++)
            _products[i % count] += _partials[i];
        for (int i = 0; i < _tasks; i++)
        {
            for (int j = 0; j < _tasks; j++)
            {
                double sum = 0;
                for (int first = i; first < TaskParts; first += _tasks)
                {
                    for (int second = j; second < TaskParts; second += _tasks)
                        sum += _products[(first * TaskParts) + second];
                }

                gram[(i * _tasks) + j] = sum;
            }
        }

        gram.CopyTo(_gram);
    }

    /// <summary>Adds the inner products of all vectors, leading ones and parts, of the shared dense elements, to [<see cref="Vectors"/>, the same].</summary>
    public void AddDenseProducts(Span<double> products)
    {
        foreach (Range range in _shared)
            Add(range.First, _stride, Vectors, rows: 1, products);
    }

    /// <summary>The same of the feature rows' columns of tables.</summary>
    public void AddRowProducts(Span<double> products)
    {
        foreach (Slot columns in _tableColumns)
            Add(columns, _rowsStride, Vectors, Rows, products);
    }

    /// <summary>Writes the sum of the kept gradients, each times its weight, to where gradients are for the update.</summary>
    /// <param name="rows">Rows of the batch.</param>
    /// <param name="weights">[tasks + 1] in device memory, the last of them 1.</param>
    /// <param name="scaleOwn">Whether the parameters of single tasks are weighted too.</param>
    public void Combine(long rows, float* weights, bool scaleOwn)
    {
        if (_halves == 2)
        {
            _context.Stream.CopyOnDevice((nint)weights, (nint)PartWeights, _tasks * sizeof(float));
            _context.Stream.CopyOnDevice((nint)weights, (nint)(PartWeights + _tasks), (Parts - _tasks) * sizeof(float));
            weights = PartWeights;
        }

        foreach (Range range in _shared)
            BalanceOperations.Combine(_context, range.Kept[0], _stride, Parts, rows: 1, weights, range.Gradient, accumulate: false);
        foreach (Range range in _own)
            BalanceOperations.Combine(_context, range.Kept[0], _stride, Parts, rows: 1, scaleOwn ? weights : Ones, range.Gradient, accumulate: false);
        if (_rows != null)
            BalanceOperations.Combine(_context, _firstRows!, _rowsStride, Parts, rows, weights, _embedding.OutputGradient!, accumulate: false);
    }

    /// <summary>Keeps the gradients of single tasks' parameters, or puts them back.</summary>
    public void CopyOwn(bool restore) => CopyDense(_own, part: 0, restore);

    private bool HasMerged => _rows != null && _embedding.Lookups > 0;

    private Slot MergedSlot => field ??= Slot.At(_merged, _embedding.WidestTable);

    private void CopyDense(List<Range> ranges, int part, bool restore)
    {
        foreach (Range range in ranges)
        {
            (Slot from, Slot to) = restore ? (range.Kept[part], range.Gradient) : (range.Gradient, range.Kept[part]);
            _context.Stream.CopyOnDevice(from.Pointer, to.Pointer, range.Gradient.Columns * sizeof(float));
        }
    }

    private Slot RowsOf(int vector)
    {
        Slot row = _embedding.OutputGradient!;
        return Slot.Of(() => _rows!.Pointer + (nint)(vector * _rowsStride * sizeof(float)), row.RowStride).Reshape(row.Columns, row.RowStride);
    }

    private void Add(Slot first, long stride, int count, long rows, Span<double> gram)
    {
        BalanceOperations.GramOf(_context, first, stride, count, rows, (double*)_grams);
        _context.Stream.CopyToHost(_grams, _partial.AsSpan(0, count * count));
        for (int i = 0; i < count * count; i++)
            gram[i] += _partial[i];
    }

    private void Bind()
    {
        int only = (_tasks + 1) * (_tasks + 1);
        float[] factors = new float[only + (2 * Parts)];
        for (int i = 0; i < _tasks; i++)
            factors[(i * (_tasks + 1)) + i] = 1;
        Array.Fill(factors, 1f, only, 2 * Parts);
        _context.Stream.CopyToDevice<float>(factors, _factors);
        long place = 0;
        foreach ((long first, long count) in OwnRanges())
        {
            AddRange(_shared, place, first - place);
            AddRange(_own, first, count);
            place = first + count;
        }

        AddRange(_shared, place, _dense - place);
        if (_shared.Count >= _gramsReserved)
            throw new InvalidOperationException($"{_shared.Count} ranges of shared parameters, where {_gramsReserved - 1} were expected");
        _partials = new double[(_shared.Count + 1) * TaskParts * TaskParts];
        foreach (Range range in _shared)
            BalanceOperations.NeedGramOf(_context, range.First, _stride, Vectors, rows: 1);
        if (_rows == null)
            return;
        BalanceOperations.NeedGramOf(_context, MergedSlot, MergedSize, TaskParts, _embedding.MaxLookups);
        if (_leading > 0)
            BalanceOperations.NeedGramOf(_context, _leadingRows[0], _rowsStride, Vectors, _context.MaxRows);
    }

    /// <summary>Where single tasks' parameters lie, ascending, neighbours as one.</summary>
    private List<(long First, long Count)> OwnRanges()
    {
        List<(long First, long Count)> ranges = [];
        foreach (Parameter parameter in _context.Parameters.All.Where(p => p.Gradient != 0).OrderBy(p => p.Gradient))
        {
            long first = (parameter.Gradient - _context.Parameters.Gradients) / sizeof(float);
            foreach (TaskParameters own in _ownNames.Where(own => first < _dense && parameter.Name.StartsWith(own.Prefix, StringComparison.Ordinal)))
            {
                long count = parameter.Count / own.Parts * own.Leading;
                if (ranges.Count > 0 && ranges[^1].First + ranges[^1].Count == first)
                    ranges[^1] = (ranges[^1].First, ranges[^1].Count + count);
                else
                    ranges.Add((first, count));
            }
        }

        return ranges;
    }

    private void AddRange(List<Range> ranges, long first, long count)
    {
        if (count <= 0)
            return;
        nint bytes = (nint)(first * sizeof(float));
        Slot gradient = Slot.At(_context.Parameters.Gradients + bytes, count);
        Slot[] vectors = [.. Enumerable.Range(0, Vectors).Select(vector => Slot.At(_kept + bytes + (nint)(vector * _stride * sizeof(float)), count))];
        ranges.Add(new(gradient, vectors[.._leading], vectors[_leading..], first));
    }

    /// <summary>Neighbouring elements.</summary>
    /// <param name="Gradient">Where their gradient is.</param>
    /// <param name="LeadingVectors">Where they are in the vectors that are kept from step to step.</param>
    /// <param name="Kept">Where each part's gradient is kept.</param>
    /// <param name="Start">Their first place in a vector.</param>
    internal sealed record Range(Slot Gradient, Slot[] LeadingVectors, Slot[] Kept, long Start)
    {
        /// <summary>The first of all vectors.</summary>
        public Slot First => LeadingVectors.Length > 0 ? LeadingVectors[0] : Kept[0];
    }
}
