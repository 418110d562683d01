using System.Numerics;
using CudaMoE.Data;
using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>
/// A batch as operations read it. Where the device can read the host's memory that is the batch itself; elsewhere its parts are laid one after the
/// other in page-locked memory and copied, the features when the forward begins and the labels when the losses are asked for. Sequences are
/// sorted by position on the way. What is copied has more room for ids of bags and of positions than they need, so that most batches of as many rows lie at the same places.
/// The batch may be refilled as soon as a load has returned.
/// </summary>
internal sealed unsafe class DeviceBatch : IDisposable
{
    private const long Alignment = 64;

    // Bytes that are sent while the host prepares the next ones.
    private const long SentAtOnce = 4 << 20;
    private readonly BatchLayout _layout;
    private readonly int _maxRows;
    private readonly long[] _rooms;
    private readonly int[] _bags;
    private readonly UploadBuffer? _features;
    private readonly UploadBuffer? _labels;
    private readonly ParallelCopy? _copy;
    private readonly int*[] _ids;
    private readonly int*[] _offsets;
    private readonly int*[] _lengths;
    private readonly SequenceColumns?[] _sequences;
    private readonly SeenRooms _seenRooms;
    private readonly float*[] _taskLabels;
    private readonly float*[] _taskWeights;

    /// <param name="context">The context.</param>
    /// <param name="layout">The inputs.</param>
    /// <param name="paddedSequences">Whether positions behind a sequence's last value hold id 0; else they hold none.</param>
    public DeviceBatch(LayerContext context, BatchLayout layout, bool paddedSequences)
    {
        _layout = layout;
        _maxRows = context.MaxRows;
        _rooms = new long[layout.Sparse.Count];
        _bags = [.. Enumerable.Range(0, layout.Sparse.Count).Where(f => layout.Sparse[f].MultiHot && layout.Sparse[f].Positions == 0)];
        _seenRooms = new(_bags.Length);
        _ids = new int*[layout.Sparse.Count];
        _offsets = new int*[layout.Sparse.Count];
        _lengths = new int*[layout.Sparse.Count];
        _sequences = new SequenceColumns?[layout.Sparse.Count];
        for (int f = 0; f < _sequences.Length; f++)
        {
            if (layout.Sparse[f].Positions > 0)
                _sequences[f] = new(f, layout.Sparse[f].Positions, context.MaxRows, paddedSequences, spaced: !context.Device.Info.HostAccessible);
        }

        _taskLabels = new float*[layout.Tasks];
        _taskWeights = new float*[layout.Tasks];
        if (context.Device.Info.HostAccessible)
            return;
        _features = new(context.Stream, LayerContext.StepsAhead);
        _labels = new(context.Stream, LayerContext.StepsAhead);
        _copy = new();
    }

    /// <summary>[rows, dense width] without gaps.</summary>
    public float* Dense { get; private set; }

    /// <summary>Where the features of the last load begin; with the number of rows it says where each of them is.</summary>
    public nint Begin { get; private set; }

    /// <summary>Where the labels of the last load begin, likewise.</summary>
    public nint BeginLabels { get; private set; }

    /// <summary>Ids of an input.</summary>
    public int* Ids(int input) => _ids[input];

    /// <summary>How many ids there is room for from <see cref="Ids"/> on, at least as many as the bags hold; what is behind those is no bag's.</summary>
    public long Room(int input) => _rooms[input];

    /// <summary>A number for the rooms of all inputs: loads of one number and as many rows have the same rooms.</summary>
    public int RoomsNumber => _seenRooms.Number;

    /// <summary>[rows + 1] starts of the bags of an input; null for one that is not multi-hot. Of a sequence [positions, rows + 1].</summary>
    public int* Offsets(int input) => _offsets[input];

    /// <summary>[rows] values of a sequence's samples; null for other inputs.</summary>
    public int* Lengths(int input) => _lengths[input];

    /// <summary>A sequence's place in <see cref="Ids"/> and <see cref="Offsets"/>, which hold position after position; null for other inputs.</summary>
    public SequenceColumns? Sequence(int input) => _sequences[input];

    /// <summary>[rows] labels of a task.</summary>
    public float* Labels(int task) => _taskLabels[task];

    /// <summary>[rows] sample weights of a task.</summary>
    public float* Weights(int task) => _taskWeights[task];

    /// <summary>Makes ids, offsets and numbers of a batch readable.</summary>
    public void LoadFeatures(Batch batch)
    {
        foreach (SequenceColumns? sequence in _sequences)
            sequence?.Fill(batch);
        if (_features == null)
        {
            for (int f = 0; f < _ids.Length; f++)
            {
                _rooms[f] = IdCount(batch, f);
                _ids[f] = IdsOf(batch, f);
                _offsets[f] = OffsetsOf(batch, f);
                _lengths[f] = _sequences[f] is { } sequence ? sequence.Lengths : null;
            }

            Dense = batch.DensePointer;
            Begin = (nint)batch.DensePointer;
            return;
        }

        for (int f = 0; f < _ids.Length; f++)
            _rooms[f] = IdCount(batch, f);
        foreach (int bags in _bags)
            _rooms[bags] = RoomFor(bags, _rooms[bags]);
        _seenRooms.Look(_rooms, _bags);
        long bytes = Aligned((long)batch.Rows * _layout.DenseWidth * sizeof(float));
        for (int f = 0; f < _ids.Length; f++)
            bytes += Aligned(_rooms[f] * sizeof(int)) + Aligned(OffsetBytes(batch, f)) + Aligned(LengthBytes(batch, f));
        byte* host = _features.Begin(bytes);
        Place(batch, host, host);
        Begin = (nint)_features.Commit();
        Place(batch, (byte*)Begin, null);
    }

    /// <summary>Makes labels and sample weights of a batch readable.</summary>
    public void LoadLabels(Batch batch)
    {
        if (_labels == null)
        {
            for (int t = 0; t < _taskLabels.Length; t++)
            {
                _taskLabels[t] = batch.LabelsPointer(t);
                _taskWeights[t] = batch.WeightsPointer(t);
            }

            return;
        }

        long part = (long)batch.Rows * sizeof(float), stride = Aligned(part);
        byte* host = _labels.Begin(2 * stride * _taskLabels.Length);
        for (int t = 0; t < _taskLabels.Length; t++)
        {
            _copy!.Run(batch.LabelsPointer(t), host + (2 * t * stride), part);
            _copy.Run(batch.WeightsPointer(t), host + (((2 * t) + 1) * stride), part);
        }

        byte* device = _labels.Commit();
        BeginLabels = (nint)device;
        for (int t = 0; t < _taskLabels.Length; t++)
        {
            _taskLabels[t] = (float*)(device + (2 * t * stride));
            _taskWeights[t] = (float*)(device + (((2 * t) + 1) * stride));
        }
    }

    public void Dispose()
    {
        foreach (SequenceColumns? sequence in _sequences)
            sequence?.Dispose();
        _features?.Dispose();
        _labels?.Dispose();
    }

    private static long Aligned(long bytes) => (bytes + Alignment - 1) / Alignment * Alignment;

    private int* IdsOf(Batch batch, int input) => _sequences[input] is { } sequence ? sequence.Ids : batch.IdsPointer(input);

    private int* OffsetsOf(Batch batch, int input) => _sequences[input] is { } sequence ? sequence.Offsets : batch.OffsetsPointer(input);

    private long IdCount(Batch batch, int input) => _sequences[input]?.Count ?? batch.IdCount(input);

    /// <summary>A function of the number of ids alone, so that results are: at most a quarter more.</summary>
    private long RoomFor(int input, long ids)
    {
        const long fewest = 64;
        long least = Math.Max(ids, fewest), step = (long)BitOperations.RoundUpToPowerOf2((ulong)least) / 8;
        return Math.Max(ids, Math.Min((least + step - 1) / step * step, (long)_maxRows * _layout.Sparse[input].MaxLength));
    }

    private long OffsetBytes(Batch batch, int input) =>
        _layout.Sparse[input].MultiHot ? Math.Max(1, _layout.Sparse[input].Positions) * (batch.Rows + 1L) * sizeof(int) : 0;

    private long LengthBytes(Batch batch, int input) => _sequences[input] == null ? 0 : (long)batch.Rows * sizeof(int);

    /// <summary>Sets the addresses of the parts from <paramref name="begin"/> on, and copies the parts to the same places from <paramref name="host"/> on.</summary>
    private void Place(Batch batch, byte* begin, byte* host)
    {
        long place = 0, sent = 0;
        for (int f = 0; f < _ids.Length; f++)
        {
            _ids[f] = (int*)Next(IdsOf(batch, f), IdCount(batch, f) * sizeof(int), _rooms[f] * sizeof(int));
            long bytes = OffsetBytes(batch, f);
            _offsets[f] = bytes == 0 ? null : (int*)Next(OffsetsOf(batch, f), bytes, bytes);
            long lengths = LengthBytes(batch, f);
            _lengths[f] = _sequences[f] is { } sequence ? (int*)Next(sequence.Lengths, lengths, lengths) : null;
        }

        long dense = (long)batch.Rows * _layout.DenseWidth * sizeof(float);
        Dense = (float*)Next(batch.DensePointer, dense, dense);

        byte* Next(void* source, long bytes, long room)
        {
            if (host != null)
                _copy!.Run(source, host + place, bytes);
            byte* address = begin + place;
            place += Aligned(room);
            if (host != null && place - sent >= SentAtOnce)
            {
                _features!.Send(place);
                sent = place;
            }

            return address;
        }
    }

    /// <summary>Numbers the rooms that came up; those that did not for long get another number when they do.</summary>
    private sealed class SeenRooms(int inputs)
    {
        private const int Most = 64;

        // The last seen first.
        private readonly List<(int Number, long[] Rooms)> _seen = [];
        private readonly long[] _last = new long[inputs];
        private int _count;

        /// <summary>That of the last ones.</summary>
        public int Number { get; private set; }

        public void Look(long[] rooms, int[] inputs)
        {
            for (int i = 0; i < inputs.Length; i++)
                _last[i] = rooms[inputs[i]];
            for (int i = 0; i < _seen.Count; i++)
            {
                if (!_seen[i].Rooms.AsSpan().SequenceEqual(_last))
                    continue;
                (int Number, long[] Rooms) found = _seen[i];
                _seen.RemoveAt(i);
                _seen.Insert(0, found);
                Number = found.Number;
                return;
            }

            if (_seen.Count == Most)
                _seen.RemoveAt(Most - 1);
            Number = _count++;
            _seen.Insert(0, (Number, [.. _last]));
        }
    }
}
