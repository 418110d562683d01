using System.Runtime.InteropServices;
using CudaMoE.Description;

namespace CudaMoE.Data;

/// <summary>Streams the rows of a text file as batches, in order, without a cache. Not thread-safe.</summary>
public sealed unsafe class PredictionReader : IDisposable
{
    private readonly DelimitedReader _reader;
    private readonly RowEncoder _row;
    private readonly List<int>[] _bags;
    private long _batches;

    internal PredictionReader(FittedEncoders encoders, string path, bool withLabels, FileFormat format)
    {
        Layout = encoders.Layout;
        _reader = new(path, format);
        try
        {
            _row = new(encoders, withLabels, format);
            _row.Bind(_reader);
        }
        catch
        {
            _reader.Dispose();
            throw;
        }

        _bags = new List<int>[Layout.Sparse.Count];
        for (int i = 0; i < _bags.Length; i++)
            _bags[i] = [];
    }

    /// <summary>The shape of the batches.</summary>
    public BatchLayout Layout { get; }

    /// <summary>Rows read so far.</summary>
    public long Rows => _reader.Rows;

    /// <summary>Bytes of the file (compressed, if it is) read so far.</summary>
    public long BytesRead => _reader.BytesRead;

    /// <summary>Bytes of the file.</summary>
    public long Length => _reader.Length;

    /// <summary>Fills a batch with the next rows, as many as it holds or the file has left. Without labels these are NaN, weights 1 and
    /// groups 0.</summary>
    /// <returns>False when no row was left.</returns>
    /// <exception cref="DataException">A row breaks a rule.</exception>
    public bool Read(Batch batch)
    {
        foreach (List<int> bag in _bags)
            bag.Clear();
        int rows = 0;
        for (; rows < batch.Capacity && _reader.Read(); rows++)
        {
            _row.Encode(_reader);
            batch.Rows = rows + 1;
            Put(batch, rows);
        }

        batch.Rows = rows;
        batch.Index = _batches++;
        for (int input = 0; input < _bags.Length; input++)
        {
            if (!Layout.Sparse[input].MultiHot)
                continue;
            batch.OffsetsPointer(input)[rows] = _bags[input].Count;
            batch.SetIdCount(input, _bags[input].Count);
            CollectionsMarshal.AsSpan(_bags[input]).CopyTo(batch.Ids(input));
        }

        return rows > 0;
    }

    /// <summary>Closes the file.</summary>
    public void Dispose() => _reader.Dispose();

    private void Put(Batch batch, int row)
    {
        for (int input = 0; input < _bags.Length; input++)
        {
            if (Layout.Sparse[input].MultiHot)
            {
                batch.OffsetsPointer(input)[row] = _bags[input].Count;
                _bags[input].AddRange(_row.Bags[input]);
            }
            else
            {
                batch.IdsPointer(input)[row] = _row.Ids[input];
            }
        }

        _row.Dense.CopyTo(new Span<float>(batch.DensePointer + ((long)row * Layout.DenseWidth), Layout.DenseWidth));
        for (int task = 0; task < Layout.Tasks; task++)
        {
            batch.LabelsPointer(task)[row] = _row.Labels[task];
            batch.WeightsPointer(task)[row] = _row.Weights[task];
        }

        batch.Groups[row] = _row.Group;
    }
}
