using System.Runtime.InteropServices;

namespace CudaMoE.Data;

/// <summary>Puts encoded rows into a batch, one after the other. Not thread-safe.</summary>
internal sealed unsafe class BatchFiller
{
    private readonly BatchLayout _layout;
    private readonly List<int>[] _bags;

    public BatchFiller(BatchLayout layout)
    {
        _layout = layout;
        _bags = new List<int>[layout.Sparse.Count];
        for (int i = 0; i < _bags.Length; i++)
            _bags[i] = [];
    }

    /// <summary>Empties a batch.</summary>
    public void Begin(Batch batch)
    {
        foreach (List<int> bag in _bags)
            bag.Clear();
        batch.Rows = 0;
    }

    /// <summary>Adds the row that was encoded last; the batch must have room.</summary>
    public void Add(Batch batch, RowEncoder encoded)
    {
        int row = batch.Rows++;
        for (int input = 0; input < _bags.Length; input++)
        {
            if (_layout.Sparse[input].MultiHot)
            {
                batch.OffsetsPointer(input)[row] = _bags[input].Count;
                _bags[input].AddRange(encoded.Bags[input]);
            }
            else
            {
                batch.IdsPointer(input)[row] = encoded.Ids[input];
            }
        }

        encoded.Dense.CopyTo(new Span<float>(batch.DensePointer + ((long)row * _layout.DenseWidth), _layout.DenseWidth));
        for (int task = 0; task < _layout.Tasks; task++)
        {
            batch.LabelsPointer(task)[row] = encoded.Labels[task];
            batch.WeightsPointer(task)[row] = encoded.Weights[task];
        }

        batch.Groups[row] = encoded.Group;
    }

    /// <summary>Makes the batch whole after its last row.</summary>
    public void End(Batch batch)
    {
        for (int input = 0; input < _bags.Length; input++)
        {
            if (!_layout.Sparse[input].MultiHot)
                continue;
            batch.OffsetsPointer(input)[batch.Rows] = _bags[input].Count;
            batch.SetIdCount(input, _bags[input].Count);
            CollectionsMarshal.AsSpan(_bags[input]).CopyTo(batch.Ids(input));
        }
    }
}
