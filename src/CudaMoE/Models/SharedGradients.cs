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
/// gates have losses of their own.</para>
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
    private readonly double[] _partial;

    /// <param name="context">The context.</param>
    /// <param name="embedding">The tables.</param>
    /// <param name="trunk">Says what belongs to single tasks.</param>
    /// <param name="tasks">Tasks.</param>
    /// <param name="dense">Elements of the dense blocks below the towers: the first of the parameter set.</param>
    /// <param name="auxiliary">Whether gates have losses of their own, whose gradient is kept beside the tasks'.</param>
    public SharedGradients(LayerContext context, EmbeddingLayer embedding, Trunk trunk, int tasks, long dense, bool auxiliary)
    {
        _context = context;
        _embedding = embedding;
        _ownNames = [.. trunk.OwnOfTasks];
        _tasks = tasks;
        _dense = dense;
        _stride = (dense + Lane - 1) / Lane * Lane;
        HasAuxiliary = auxiliary;
        _partial = new double[tasks * tasks];
        Arena arena = context.Activations;
        arena.Reserve("shared.kept", checked(Parts * _stride * sizeof(float)), p => _kept = p);
        if (embedding.OutputGradient is { } row)
        {
            _rows = Slot.ReserveExact(arena, "shared.rows", (long)Parts * context.MaxRows, row.Columns, row.RowStride);
            _rowsStride = context.MaxRows * row.RowStride;
            arena.Reserve("shared.merged", checked(tasks * MergedSize * sizeof(float)), p => _merged = p);
            arena.Reserve("shared.touched", embedding.MaxLookups * sizeof(int), p => _touched = p);
            arena.Reserve("shared.counts", (long)embedding.Tables * sizeof(long), p => _counts = p);
        }

        arena.Reserve("shared.grams", (long)tasks * tasks * sizeof(double), p => _grams = p);
        arena.Reserve("shared.factors", (long)(tasks + 2) * (tasks + 1) * sizeof(float), p => _factors = p);
        context.OnBind(Bind);
    }

    /// <summary>Whether a last part holds the gradient of the gates' own losses.</summary>
    public bool HasAuxiliary { get; }

    /// <summary>Whether some parameters below the towers belong to single tasks.</summary>
    public bool HasOwn => _own.Count > 0;

    /// <summary>Factors 1, of each task and of the gates' losses, in device memory.</summary>
    public float* Ones => (float*)_factors + ((_tasks + 1) * (_tasks + 1));

    private int Parts => _tasks + (HasAuxiliary ? 1 : 0);

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
        _context.Stream.CopyOnDevice(row.Pointer, _rows.Pointer + (nint)(part * _rowsStride * sizeof(float)), rows * row.RowStride * sizeof(float));
        if (part == _tasks || _embedding.Lookups == 0)
            return;
        float* merged = (float*)_merged + (part * MergedSize);
        _context.Stream.Fill((nint)merged, 0, _embedding.Lookups * _embedding.WidestTable * sizeof(float));
        _embedding.MergedGradient((int*)_touched, merged, (long*)_counts);
    }

    /// <summary>Inner products of the kept tasks' gradients of all that is shared, [tasks, tasks].</summary>
    public void Gram(Span<double> gram)
    {
        gram.Clear();
        foreach (Range range in _shared)
            Add(range.Kept[0], _stride, rows: 1, gram);
        if (_rows != null && _embedding.Lookups > 0)
            Add(MergedSlot, MergedSize, _embedding.Lookups, gram);
    }

    /// <summary>Writes the sum of the kept gradients, each times its weight, to where gradients are for the update.</summary>
    /// <param name="rows">Rows of the batch.</param>
    /// <param name="weights">[tasks + 1] in device memory, the last of them 1.</param>
    /// <param name="scaleOwn">Whether the parameters of single tasks are weighted too.</param>
    public void Combine(long rows, float* weights, bool scaleOwn)
    {
        foreach (Range range in _shared)
            BalanceOperations.Combine(_context, range.Kept[0], _stride, Parts, rows: 1, weights, range.Gradient, accumulate: false);
        foreach (Range range in _own)
            BalanceOperations.Combine(_context, range.Kept[0], _stride, Parts, rows: 1, scaleOwn ? weights : Ones, range.Gradient, accumulate: false);
        if (_rows != null)
            BalanceOperations.Combine(_context, _rows, _rowsStride, Parts, rows, weights, _embedding.OutputGradient!, accumulate: false);
    }

    /// <summary>Keeps the gradients of single tasks' parameters, or puts them back.</summary>
    public void CopyOwn(bool restore) => CopyDense(_own, part: 0, restore);

    private Slot MergedSlot => field ??= Slot.At(_merged, _embedding.WidestTable);

    private void CopyDense(List<Range> ranges, int part, bool restore)
    {
        foreach (Range range in ranges)
        {
            (Slot from, Slot to) = restore ? (range.Kept[part], range.Gradient) : (range.Gradient, range.Kept[part]);
            _context.Stream.CopyOnDevice(from.Pointer, to.Pointer, range.Gradient.Columns * sizeof(float));
        }
    }

    private void Add(Slot first, long stride, long rows, Span<double> gram)
    {
        BalanceOperations.GramOf(_context, first, stride, _tasks, rows, (double*)_grams);
        _context.Stream.CopyToHost<double>(_grams, _partial);
        for (int i = 0; i < gram.Length; i++)
            gram[i] += _partial[i];
    }

    private void Bind()
    {
        float[] factors = new float[(_tasks + 2) * (_tasks + 1)];
        for (int i = 0; i <= _tasks; i++)
        {
            if (i < _tasks)
                factors[(i * (_tasks + 1)) + i] = 1;
            factors[((_tasks + 1) * (_tasks + 1)) + i] = 1;
        }

        _context.Stream.CopyToDevice<float>(factors, _factors);
        long place = 0;
        foreach ((long first, long count) in OwnRanges())
        {
            AddRange(_shared, place, first - place);
            AddRange(_own, first, count);
            place = first + count;
        }

        AddRange(_shared, place, _dense - place);
        foreach (Range range in _shared)
            BalanceOperations.NeedGramOf(_context, range.Kept[0], _stride, _tasks, rows: 1);
        if (_rows != null)
            BalanceOperations.NeedGramOf(_context, MergedSlot, MergedSize, _tasks, _embedding.MaxLookups);
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
        ranges.Add(new(gradient, [.. Enumerable.Range(0, Parts).Select(part => Slot.At(_kept + bytes + (nint)(part * _stride * sizeof(float)), count))]));
    }

    /// <summary>Neighbouring elements: where their gradient is, and where each part's is kept.</summary>
    private sealed record Range(Slot Gradient, Slot[] Kept);
}
