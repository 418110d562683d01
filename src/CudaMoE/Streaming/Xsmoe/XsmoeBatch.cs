using System.Runtime.CompilerServices;
using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Streaming.Xsmoe;

/// <summary>
/// Sequences as the model reads them: each item of the batch once, where the sequences have it, and what the in-batch loss adds to the scores. Row s * L
/// + i holds item i of sequence s; its position
/// counts from the end, L - 1 being the last input's, as in sequences that are padded in front.
/// </summary>
internal sealed class XsmoeBatch
{
    /// <summary>What is added to a score that does not count.</summary>
    public const float Excluded = -1e4f;

    private readonly int _history;

    private XsmoeBatch(int history, int sequences)
    {
        _history = history;
        Sequences = sequences;
        Lengths = new int[sequences];
        InputOffsets = new long[Rows + 1];
    }

    public int Sequences { get; }

    /// <summary>Rows, the empty ones behind short sequences counted.</summary>
    public int Rows => Sequences * _history;

    /// <summary>Inputs of each sequence.</summary>
    public int[] Lengths { get; }

    /// <summary>The batch's items, each once, in the order of their first appearance; empty in a batch that only reads the table of all items.</summary>
    public int[] Items { get; private set; } = [];

    /// <summary>Where each row's input begins in <see cref="InputItems"/>: one for a row with an item, none for an empty one.</summary>
    public long[] InputOffsets { get; }

    /// <summary>Places in <see cref="Items"/>, or numbers of items in a batch for ranking.</summary>
    public int[] InputItems { get; private set; } = [];

    /// <summary>Positions of the inputs.</summary>
    public int[] InputPositions { get; private set; } = [];

    /// <summary>Rows of each item.</summary>
    public (long[] Offsets, int[] Rows) RowsOfItems { get; private set; } = ([], []);

    /// <summary>Rows of each position.</summary>
    public (long[] Offsets, int[] Rows) RowsOfPositions { get; private set; } = ([], []);

    /// <summary>Place in <see cref="Items"/> of the item to predict; NaN for an empty row.</summary>
    public float[] Labels { get; private set; } = [];

    /// <summary>For each item ln(its number in the batch) - ln(its popularity): a column stands for all of the item's places in the batch's
    /// sequences.</summary>
    public float[] ColumnBias { get; private set; } = [];

    /// <summary>Scores that are corrected: row * stride + column.</summary>
    public int[] CorrectionPlaces { get; private set; } = [];

    /// <summary>What is taken off them.</summary>
    public float[] CorrectionValues { get; private set; } = [];

    /// <summary>The last row of each sequence.</summary>
    public int[] LastRows { get; private set; } = [];

    /// <summary>A batch for training.</summary>
    /// <param name="set">The sequences.</param>
    /// <param name="chosen">Which of them.</param>
    /// <param name="history">Inputs of a sequence, L.</param>
    /// <param name="popularity">Share of each item, above 0 for all of the set's.</param>
    /// <param name="stride">Elements from one row of scores to the next.</param>
    /// <remarks>
    /// The scores of a row run over all items of all sequences of the batch. An item of the row's own user is left out, except the one place that the row
    /// is to predict; so that column counts
    /// once, and the others of the user not at all. This is XSMoE's loss over places (section 3.3 of its code's account) with equal columns drawn together.
    /// </remarks>
    public static XsmoeBatch ForTraining(SequenceSet set, ReadOnlySpan<int> chosen, int history, double[] popularity, long stride)
    {
        XsmoeBatch batch = new(history, chosen.Length);
        Dictionary<int, int> columns = [];
        List<int> items = [];
        List<int> counts = [];
        foreach (int sequence in chosen)
        {
            foreach (int item in set.Items(sequence))
            {
                if (columns.TryAdd(item, items.Count))
                {
                    items.Add(item);
                    counts.Add(0);
                }

                counts[columns[item]]++;
            }
        }

        batch.Items = [.. items];
        batch.ColumnBias = [.. items.Select((item, column) => (float)(Math.Log(counts[column]) - Math.Log(popularity[item])))];
        batch.Labels = new float[batch.Rows];
        Array.Fill(batch.Labels, float.NaN);
        List<int> places = [];
        List<float> values = [];
        HashSet<int> own = [];
        for (int s = 0; s < chosen.Length; s++)
        {
            ReadOnlySpan<int> sequence = set.Items(chosen[s]);
            own.Clear();
            foreach (int item in sequence)
                own.Add(columns[item]);
            for (int i = 0; i + 1 < sequence.Length; i++)
            {
                int row = (s * history) + i;
                int target = columns[sequence[i + 1]];
                batch.Labels[row] = target;
                foreach (int column in own)
                {
                    float value = column == target ? MathF.Log(counts[column]) : -Excluded;
                    if (value == 0)
                        continue;
                    places.Add(checked((int)((row * stride) + column)));
                    values.Add(value);
                }
            }
        }

        batch.CorrectionPlaces = [.. places];
        batch.CorrectionValues = [.. values];
        batch.SetInputs(set, chosen, item => columns[item]);
        batch.RowsOfItems = batch.Transpose(batch.InputItems, items.Count);
        batch.RowsOfPositions = batch.Transpose(batch.InputPositions, history);
        return batch;
    }

    /// <summary>A batch for ranking: its inputs are numbers of items.</summary>
    public static XsmoeBatch ForRanking(SequenceSet set, ReadOnlySpan<int> chosen, int history)
    {
        XsmoeBatch batch = new(history, chosen.Length);
        batch.SetInputs(set, chosen, item => item);
        batch.LastRows = [.. batch.Lengths.Select((length, s) => (s * history) + length - 1)];
        return batch;
    }

    private void SetInputs(SequenceSet set, ReadOnlySpan<int> chosen, Func<int, int> place)
    {
        List<int> items = [];
        List<int> positions = [];
        for (int s = 0; s < chosen.Length; s++)
        {
            ReadOnlySpan<int> sequence = set.Items(chosen[s]);
            Lengths[s] = sequence.Length - 1;
            for (int i = 0; i < _history; i++)
            {
                if (i < Lengths[s])
                {
                    items.Add(place(sequence[i]));
                    positions.Add(_history - Lengths[s] + i);
                }

                InputOffsets[(s * _history) + i + 1] = items.Count;
            }
        }

        InputItems = [.. items];
        InputPositions = [.. positions];
    }

    private (long[] Offsets, int[] Rows) Transpose(int[] of, int count)
    {
        long[] offsets = new long[count + 1];
        foreach (int place in of)
            offsets[place + 1]++;
        for (int i = 0; i < count; i++)
            offsets[i + 1] += offsets[i];
        long[] next = [.. offsets];
        int[] rows = new int[of.Length];
        for (int row = 0; row < Rows; row++)
        {
            for (long edge = InputOffsets[row]; edge < InputOffsets[row + 1]; edge++)
                rows[next[of[edge]]++] = row;
        }

        return (offsets, rows);
    }
}

/// <summary>A batch in device memory, uploaded in one go.</summary>
internal sealed unsafe class XsmoeDeviceBatch
{
    private const long Alignment = 64;
    private readonly UploadBuffer _upload;
    private byte* _host;
    private byte* _device;
    private long _place;

    public XsmoeDeviceBatch(LayerContext context) => _upload = context.Own(new UploadBuffer(context.Stream, LayerContext.StepsAhead));

    public int* Lengths { get; private set; }

    public long* InputOffsets { get; private set; }

    public int* InputItems { get; private set; }

    public int* InputPositions { get; private set; }

    public long* ItemOffsets { get; private set; }

    public int* ItemRows { get; private set; }

    public long* PositionOffsets { get; private set; }

    public int* PositionRows { get; private set; }

    public float* Labels { get; private set; }

    public float* ColumnBias { get; private set; }

    public int* CorrectionPlaces { get; private set; }

    public float* CorrectionValues { get; private set; }

    public long* LastOffsets { get; private set; }

    public int* LastRows { get; private set; }

    public void Load(XsmoeBatch batch)
    {
        _host = _device = null;
        _place = 0;
        PlaceAll(batch);
        _host = _upload.Begin(Math.Max(_place, 1));
        _place = 0;
        PlaceAll(batch);
        _host = null;
        _device = _upload.Commit();
        _place = 0;
        PlaceAll(batch);
    }

    /// <summary>Walks over the parts: counts their bytes, copies them to the host memory, or sets their addresses.</summary>
    private void PlaceAll(XsmoeBatch batch)
    {
        Lengths = (int*)Next<int>(batch.Lengths);
        InputOffsets = (long*)Next<long>(batch.InputOffsets);
        InputItems = (int*)Next<int>(batch.InputItems);
        InputPositions = (int*)Next<int>(batch.InputPositions);
        ItemOffsets = (long*)Next<long>(batch.RowsOfItems.Offsets);
        ItemRows = (int*)Next<int>(batch.RowsOfItems.Rows);
        PositionOffsets = (long*)Next<long>(batch.RowsOfPositions.Offsets);
        PositionRows = (int*)Next<int>(batch.RowsOfPositions.Rows);
        Labels = (float*)Next<float>(batch.Labels);
        ColumnBias = (float*)Next<float>(batch.ColumnBias);
        CorrectionPlaces = (int*)Next<int>(batch.CorrectionPlaces);
        CorrectionValues = (float*)Next<float>(batch.CorrectionValues);
        LastRows = (int*)Next<int>(batch.LastRows);
        LastOffsets = (long*)Next<long>([.. Enumerable.Range(0, batch.LastRows.Length + 1).Select(i => (long)i)]);
    }

    private byte* Next<T>(ReadOnlySpan<T> part)
        where T : unmanaged
    {
        if (_host != null)
            part.CopyTo(new Span<T>(_host + _place, part.Length));
        byte* address = _device + _place;
        _place += ((((long)part.Length * Unsafe.SizeOf<T>()) + Alignment - 1) / Alignment * Alignment) + Alignment;
        return address;
    }
}
