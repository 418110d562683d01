using CudaMoE.Description;

namespace CudaMoE.Data;

/// <summary>Streams the rows of a text file as batches, in order, without a cache. Not thread-safe.</summary>
public sealed class PredictionReader : IDisposable
{
    private readonly DelimitedReader _reader;
    private readonly RowEncoder _row;
    private readonly BatchFiller _filler;
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

        _filler = new(Layout);
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
        _filler.Begin(batch);
        while (batch.Rows < batch.Capacity && _reader.Read())
        {
            _row.Encode(_reader);
            _filler.Add(batch, _row);
        }

        _filler.End(batch);
        batch.Index = _batches++;
        return batch.Rows > 0;
    }

    /// <summary>Closes the file.</summary>
    public void Dispose() => _reader.Dispose();
}
