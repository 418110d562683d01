using System.Runtime.CompilerServices;

namespace CudaMoE.Data;

/// <summary>The rows of one split, memory-mapped.</summary>
public sealed unsafe class DatasetSplit : IDisposable
{
    internal const string TrainName = "train";
    internal const string ValidationName = "validation";
    internal const string TestName = "test";

    private readonly BlockLayout _blocks;
    private readonly MappedFile _rows;
    private readonly MappedFile?[] _values;

    internal DatasetSplit(string folder, CacheSplit split, FittedEncoders encoders)
    {
        Name = split.Name;
        Rows = split.Rows;
        Layout = encoders.Layout;
        _blocks = BlockLayout.For(encoders);
        _values = new MappedFile?[Layout.Sparse.Count];
        _rows = new(Path.Combine(folder, SplitWriter.RowsFile(Name)), _blocks.FileBytes(Rows));
        for (int i = 0; i < _values.Length; i++)
            _values[i] = Layout.Sparse[i].MultiHot ? new(Path.Combine(folder, SplitWriter.ValuesFile(Name, i)), 0) : null;
    }

    /// <summary>train, validation or test.</summary>
    public string Name { get; }

    /// <summary>How many rows.</summary>
    public long Rows { get; }

    /// <summary>The shape of the batches.</summary>
    public BatchLayout Layout { get; }

    /// <summary>Starts a pass over the rows, read ahead on a thread of its own.</summary>
    public BatchLoader CreateLoader(LoaderOptions options) => new(this, options);

    /// <summary>Copies rows into a batch, in the order given, on this thread.</summary>
    /// <param name="rows">Row numbers, 0 to Rows - 1; at most the batch's capacity.</param>
    /// <param name="batch">A batch of this layout.</param>
    /// <exception cref="ArgumentException">The batch has another layout, or too few places.</exception>
    public void Gather(ReadOnlySpan<long> rows, Batch batch)
    {
        Layout.Require(batch.Layout);
        if (rows.Length > batch.Capacity)
            throw new ArgumentException($"{rows.Length} rows do not fit a batch of {batch.Capacity}", nameof(rows));
        foreach (long row in rows)
        {
            if ((ulong)row >= (ulong)Rows)
                throw new ArgumentOutOfRangeException(nameof(rows), row, $"rows are 0 to {Rows - 1}");
        }

        Hold();
        try
        {
            byte*[] places = new byte*[rows.Length];
            fixed (byte** pointers = places)
            {
                for (int i = 0; i < rows.Length; i++)
                    pointers[i] = Place(rows[i]);
                Gather(rows, pointers, batch);
            }
        }
        finally
        {
            Release();
        }
    }

    /// <summary>Unmaps the files as soon as no loader uses them.</summary>
    public void Dispose()
    {
        _rows.Dispose();
        foreach (MappedFile? values in _values)
            values?.Dispose();
    }

    internal void Hold()
    {
        _rows.Hold();
        foreach (MappedFile? values in _values)
            values?.Hold();
    }

    internal void Release()
    {
        _rows.Release();
        foreach (MappedFile? values in _values)
            values?.Release();
    }

    /// <summary>Where a row's element of a 4-byte column at offset 0 of its block lies.</summary>
    internal byte* Place(long row) =>
        _rows.Pointer + ((row >> BlockLayout.Shift) * _blocks.BlockBytes) + ((row & (BlockLayout.Rows - 1)) * sizeof(int));

    /// <summary>Copies rows into a batch; <paramref name="places"/> are the <see cref="Place"/>s of the rows.</summary>
    internal void Gather(ReadOnlySpan<long> rows, byte** places, Batch batch)
    {
        batch.Rows = rows.Length;
        for (int input = 0; input < _values.Length; input++)
        {
            if (_values[input] is { } values)
                GatherBags(input, rows, places, values, batch);
        }

        // By tiles of rows, so that the few pages that hold a tile's rows stay in the translation buffer through all its columns.
        for (int first = 0; first < rows.Length; first += TileRows)
            GatherTile(first, Math.Min(TileRows, rows.Length - first), rows, places, batch);
    }

    private const int TileRows = 256;

    private static void GatherColumn(byte** places, int count, int column, int* target)
    {
        for (int i = 0; i < count; i++)
            target[i] = *(int*)(places[i] + column);
    }

    private void GatherTile(int first, int count, ReadOnlySpan<long> rows, byte** places, Batch batch)
    {
        places += first;
        for (int input = 0; input < _blocks.Ids.Length; input++)
        {
            if (_blocks.Ids[input] >= 0)
                GatherColumn(places, count, _blocks.Ids[input], batch.IdsPointer(input) + first);
        }

        for (int task = 0; task < _blocks.Labels.Length; task++)
        {
            GatherColumn(places, count, _blocks.Labels[task], (int*)batch.LabelsPointer(task) + first);
            float* weights = batch.WeightsPointer(task) + first;
            if (_blocks.Weights[task] >= 0)
                GatherColumn(places, count, _blocks.Weights[task], (int*)weights);
            else
                new Span<float>(weights, count).Fill(1);
        }

        fixed (int* groups = batch.Groups)
        {
            if (_blocks.Groups >= 0)
                GatherColumn(places, count, _blocks.Groups, groups + first);
            else
                new Span<int>(groups + first, count).Clear();
        }

        if (_blocks.Dense >= 0)
            GatherDense(rows.Slice(first, count), places, (byte*)batch.DensePointer + ((long)first * _blocks.DenseRowBytes));
    }

    private void GatherDense(ReadOnlySpan<long> rows, byte** places, byte* target)
    {
        int bytes = _blocks.DenseRowBytes;
        for (int i = 0; i < rows.Length; i++)
        {
            // A dense row is wider than the 4 bytes a row that its place counts.
            long place = rows[i] & (BlockLayout.Rows - 1);
            byte* source = places[i] + _blocks.Dense + (place * (bytes - sizeof(float)));
            Unsafe.CopyBlockUnaligned(target + ((long)i * bytes), source, (uint)bytes);
        }
    }

    private void GatherBags(int input, ReadOnlySpan<long> rows, byte** places, MappedFile values, Batch batch)
    {
        int* offsets = batch.OffsetsPointer(input);
        long valueCount = values.Length / sizeof(int);
        int total = 0;
        for (int i = 0; i < rows.Length; i++)
        {
            offsets[i] = total;
            int length = *(int*)(places[i] + _blocks.Lengths[input]);
            if (length < 0 || BagStart(input, rows[i], places[i]) is var start && (start < 0 || start > valueCount - length))
                throw new DataException(
                    $"row {rows[i]} of the cached split {Name} points outside of its values; the cache was altered while in use");
            total = checked(total + length);
        }

        offsets[rows.Length] = total;
        batch.SetIdCount(input, total);
        int* target = batch.IdsPointer(input);
        for (int i = 0; i < rows.Length; i++)
        {
            int length = offsets[i + 1] - offsets[i];
            new ReadOnlySpan<int>((int*)values.Pointer + BagStart(input, rows[i], places[i]), length).CopyTo(new(target + offsets[i], length));
        }
    }

    // A start has 8 bytes a row, not the 4 that a place counts.
    private long BagStart(int input, long row, byte* place) =>
        *(long*)(place + _blocks.Starts[input] + ((row & (BlockLayout.Rows - 1)) * (sizeof(long) - sizeof(int))));
}
