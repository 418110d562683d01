using System.Runtime.InteropServices;
using CudaMoE.Description;

namespace CudaMoE.Data;

/// <summary>One embedded input of a batch: how its ids are laid out and which table they point into.</summary>
/// <param name="Name">The feature.</param>
/// <param name="Table">The embedding table; inputs with the same table share it.</param>
/// <param name="Rows">Rows of the table; ids are 0 to Rows - 1, 0 = unknown.</param>
/// <param name="Dimension">Width of a row.</param>
/// <param name="MultiHot">Whether a sample has a bag of ids (offsets) or exactly one.</param>
/// <param name="Pooling">How a bag is pooled.</param>
/// <param name="MaxLength">Most ids of a bag: the described limit, else the longest bag of the training rows; 1 when not multi-hot.</param>
/// <param name="Positions">Of a sequence, a bag whose ids are not pooled: places in the feature row, as many as MaxLength. Else 0.</param>
public sealed record SparseInput(string Name, string Table, int Rows, int Dimension, bool MultiHot, PoolingKind Pooling, int MaxLength, int Positions = 0)
{
    /// <summary>Columns of the feature row.</summary>
    public long Width => (long)Dimension * Math.Max(1, Positions);
}

/// <summary>The shape of the batches that a data set gives and a model takes.</summary>
/// <param name="Sparse">Embedded inputs, in the order of the features.</param>
/// <param name="DenseWidth">Numbers of a sample: dense features and vectors in the order of the features.</param>
/// <param name="Tasks">Labels of a sample.</param>
public sealed record BatchLayout(IReadOnlyList<SparseInput> Sparse, int DenseWidth, int Tasks)
{
    /// <summary>Refuses a batch whose samples lie otherwise than those of this shape.</summary>
    /// <exception cref="ArgumentException">Inputs, bags, width or tasks differ; the message says which.</exception>
    internal void Require(BatchLayout batch)
    {
        if (ReferenceEquals(this, batch))
            return;
        if (batch.Sparse.Count != Sparse.Count || batch.DenseWidth != DenseWidth || batch.Tasks != Tasks)
        {
            throw new ArgumentException(
                $"the batch has {batch.Sparse.Count} embedded inputs, {batch.DenseWidth} numbers and {batch.Tasks} labels a sample, not {Sparse.Count}, {DenseWidth} and {Tasks}; make it with the Layout of the data or the model",
                nameof(batch));
        }

        for (int i = 0; i < Sparse.Count; i++)
        {
            if (batch.Sparse[i].MultiHot != Sparse[i].MultiHot)
            {
                throw new ArgumentException(
                    $"input {i} of the batch has {(batch.Sparse[i].MultiHot ? "bags of ids" : "one id a sample")}, \"{Sparse[i].Name}\" has {(Sparse[i].MultiHot ? "bags of ids" : "one id a sample")}; make it with the Layout of the data or the model",
                    nameof(batch));
            }
        }
    }
}

/// <summary>
/// Samples in native host memory, aligned to 64 bytes, reused from batch to batch. Not thread-safe; a batch is either with its loader
/// or with its reader.
/// </summary>
public sealed unsafe class Batch : IDisposable
{
    private readonly int*[] _ids;
    private readonly int*[] _offsets;
    private readonly long[] _idCapacity;
    private readonly long[] _idCounts;
    private float* _dense;
    private float* _labels;
    private float* _weights;
    private int* _groups;
    private bool _disposed;

    /// <summary>Allocates room for <paramref name="capacity"/> samples.</summary>
    public Batch(BatchLayout layout, int capacity)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(capacity, 1);
        Layout = layout;
        Capacity = capacity;
        int inputs = layout.Sparse.Count;
        _ids = new int*[inputs];
        _offsets = new int*[inputs];
        _idCapacity = new long[inputs];
        _idCounts = new long[inputs];
        for (int i = 0; i < inputs; i++)
        {
            SparseInput input = layout.Sparse[i];
            ReserveIds(i, input.MultiHot ? capacity * (long)Math.Min(input.MaxLength, 8) : capacity);
            if (input.MultiHot)
                _offsets[i] = (int*)Allocate((capacity + 1L) * sizeof(int));
        }

        _dense = (float*)Allocate((long)capacity * layout.DenseWidth * sizeof(float));
        _labels = (float*)Allocate((long)capacity * layout.Tasks * sizeof(float));
        _weights = (float*)Allocate((long)capacity * layout.Tasks * sizeof(float));
        _groups = (int*)Allocate((long)capacity * sizeof(int));
    }

    /// <summary>The shape.</summary>
    public BatchLayout Layout { get; }

    /// <summary>Most samples.</summary>
    public int Capacity { get; }

    /// <summary>Samples now, 0 to <see cref="Capacity"/>; the loader sets it.</summary>
    /// <exception cref="ArgumentOutOfRangeException">It is set to more or less.</exception>
    public int Rows
    {
        get;
        set
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, Capacity);
            field = value;
        }
    }

    /// <summary>Index of this batch within its epoch.</summary>
    public long Index { get; set; }

    /// <summary>Ids of input <paramref name="input"/>: one a sample, or those of all bags one after the other.</summary>
    public Span<int> Ids(int input) => new(IdsPointer(input), checked((int)IdCount(input)));

    /// <summary>Native pointer of <see cref="Ids"/>.</summary>
    public int* IdsPointer(int input) => Live()._ids[input];

    /// <summary>Start of each bag, [Rows + 1]; null for an input that is not multi-hot.</summary>
    public int* OffsetsPointer(int input) => Live()._offsets[input];

    /// <summary>Number of ids of input <paramref name="input"/>.</summary>
    public long IdCount(int input) => Layout.Sparse[input].MultiHot ? _idCounts[input] : Rows;

    /// <summary>Makes room for <paramref name="count"/> ids of a multi-hot input and sets their number. Earlier ids are lost when it
    /// grows.</summary>
    public void SetIdCount(int input, long count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        Live();
        if (count > _idCapacity[input])
            ReserveIds(input, Math.Max(count, _idCapacity[input] * 2));
        _idCounts[input] = count;
    }

    /// <summary>[Rows, DenseWidth], row-major.</summary>
    public Span<float> Dense => new(DensePointer, checked(Rows * Layout.DenseWidth));

    /// <summary>Native pointer of <see cref="Dense"/>.</summary>
    public float* DensePointer => Live()._dense;

    /// <summary>Labels of task <paramref name="task"/>, [Rows]; NaN = missing. Multi-class labels are class indices.</summary>
    public Span<float> Labels(int task) => new(LabelsPointer(task), Rows);

    /// <summary>Native pointer of <see cref="Labels"/>; tasks are <see cref="Capacity"/> elements apart.</summary>
    public float* LabelsPointer(int task) => Live()._labels + Task(task);

    /// <summary>Sample weights of task <paramref name="task"/>, [Rows]; 0 where its mask leaves the row out.</summary>
    public Span<float> Weights(int task) => new(WeightsPointer(task), Rows);

    /// <summary>Native pointer of <see cref="Weights"/>; tasks are <see cref="Capacity"/> elements apart.</summary>
    public float* WeightsPointer(int task) => Live()._weights + Task(task);

    /// <summary>Whether a sample has a label of task <paramref name="task"/> that counts: not missing, with a weight above 0.</summary>
    public bool HasLabels(int task)
    {
        ReadOnlySpan<float> labels = Labels(task);
        ReadOnlySpan<float> weights = Weights(task);
        for (int row = 0; row < labels.Length; row++)
        {
            if (!float.IsNaN(labels[row]) && weights[row] > 0)
                return true;
        }

        return false;
    }

    /// <summary>Group of each sample for GAUC, [Rows]; 0 when the data has no group column.</summary>
    public Span<int> Groups => new(Live()._groups, Rows);

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        for (int i = 0; i < _ids.Length; i++)
        {
            NativeMemory.AlignedFree(_ids[i]);
            NativeMemory.AlignedFree(_offsets[i]);
            _ids[i] = _offsets[i] = null;
        }

        NativeMemory.AlignedFree(_dense);
        NativeMemory.AlignedFree(_labels);
        NativeMemory.AlignedFree(_weights);
        NativeMemory.AlignedFree(_groups);
        _dense = _labels = _weights = null;
        _groups = null;
    }

    private Batch Live()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        return this;
    }

    private long Task(int task)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(task);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(task, Layout.Tasks);
        return (long)task * Capacity;
    }

    private static void* Allocate(long bytes) => NativeMemory.AlignedAlloc((nuint)Math.Max(bytes, 64), 64);

    private void ReserveIds(int input, long count)
    {
        NativeMemory.AlignedFree(_ids[input]);
        _ids[input] = null;
        _ids[input] = (int*)Allocate(count * sizeof(int));
        _idCapacity[input] = count;
    }
}
