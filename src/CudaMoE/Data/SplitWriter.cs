using System.Runtime.InteropServices;

namespace CudaMoE.Data;

/// <summary>Writes the encoded rows of one split to its cache files.</summary>
internal sealed class SplitWriter : IDisposable
{
    private readonly BlockLayout _layout;
    private readonly byte[] _block;
    private readonly CacheFileWriter _rows;
    private readonly CacheFileWriter?[] _values;
    private readonly long[] _valueCounts;
    private readonly string _name;
    private long _count;

    public SplitWriter(string folder, string name, FittedEncoders encoders)
    {
        _name = name;
        _layout = BlockLayout.For(encoders);
        _block = new byte[_layout.BlockBytes];
        _rows = new(folder, RowsFile(name));
        IReadOnlyList<SparseInput> inputs = encoders.Layout.Sparse;
        _values = new CacheFileWriter?[inputs.Count];
        _valueCounts = new long[inputs.Count];
        for (int i = 0; i < inputs.Count; i++)
            _values[i] = inputs[i].MultiHot ? new(folder, ValuesFile(name, i)) : null;
    }

    /// <summary>The file of a split's rows.</summary>
    public static string RowsFile(string split) => $"{split}.rows";

    /// <summary>The file of the ids of a split's multi-hot input.</summary>
    public static string ValuesFile(string split, int input) => $"{split}.{input}.values";

    /// <summary>Appends the row that the encoder holds.</summary>
    public void Add(RowEncoder row)
    {
        int place = (int)(_count & (BlockLayout.Rows - 1));
        for (int i = 0; i < _values.Length; i++)
        {
            if (_values[i] is not { } values)
            {
                Put(_layout.Ids[i], place, row.Ids[i]);
                continue;
            }

            ReadOnlySpan<int> bag = CollectionsMarshal.AsSpan(row.Bags[i]);
            Put(_layout.Starts[i], place, _valueCounts[i]);
            Put(_layout.Lengths[i], place, bag.Length);
            values.Write(MemoryMarshal.AsBytes(bag));
            _valueCounts[i] += bag.Length;
        }

        if (_layout.Dense >= 0)
            MemoryMarshal.AsBytes(row.Dense.AsSpan()).CopyTo(_block.AsSpan(_layout.Dense + (place * _layout.DenseRowBytes)));
        for (int task = 0; task < _layout.Labels.Length; task++)
        {
            Put(_layout.Labels[task], place, row.Labels[task]);
            if (_layout.Weights[task] >= 0)
                Put(_layout.Weights[task], place, row.Weights[task]);
        }

        if (_layout.Groups >= 0)
            Put(_layout.Groups, place, row.Group);
        _count++;
        if (place == BlockLayout.Rows - 1)
            WriteBlock();
    }

    public CacheSplit Finish(List<CacheFile> files)
    {
        if ((_count & (BlockLayout.Rows - 1)) != 0)
            WriteBlock();
        files.Add(_rows.Finish());
        foreach (CacheFileWriter? values in _values)
        {
            if (values is not null)
                files.Add(values.Finish());
        }

        return new(_name, _count);
    }

    public void Dispose()
    {
        _rows.Dispose();
        foreach (CacheFileWriter? values in _values)
            values?.Dispose();
    }

    private void Put<T>(int column, int place, T value)
        where T : unmanaged => MemoryMarshal.Cast<byte, T>(_block.AsSpan(column))[place] = value;

    private void WriteBlock()
    {
        _rows.Write(_block);
        Array.Clear(_block);
    }
}
