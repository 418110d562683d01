using CudaMoE.Data;

namespace CudaMoE.Streaming.Xsmoe;

/// <summary>
/// The states that a ladder reads, by item number: the embedding output and the chosen layers. An item's states are fetched when it is met for the first
/// time and kept in f32: items * (1 + layers) *
/// width * 4 bytes in the end. Item 0, padding, and items without the modality have zeros.
/// </summary>
internal sealed class FrozenStates
{
    private readonly string _name;
    private readonly IItemStates _source;
    private readonly int[] _layers;
    private readonly IReadOnlyList<string> _items;
    private readonly float[]?[] _kept;
    private readonly float[] _all;

    /// <param name="name">The modality, for messages.</param>
    /// <param name="source">Where states come from.</param>
    /// <param name="layers">The layers above the embedding output that the ladder reads, ascending.</param>
    /// <param name="items">Names of the items by number.</param>
    public FrozenStates(string name, IItemStates source, IReadOnlyList<int> layers, IReadOnlyList<string> items)
    {
        _name = name;
        _source = source;
        _layers = [0, .. layers];
        _items = items;
        _kept = new float[]?[items.Count];
        _all = new float[source.Layers * source.Width];
    }

    public int Width => _source.Width;

    /// <summary>Writes the states of items, [1 + layers, items, width].</summary>
    /// <exception cref="DataException">A state is not finite.</exception>
    public void Gather(ReadOnlySpan<int> items, Span<float> states)
    {
        for (int i = 0; i < items.Length; i++)
        {
            ReadOnlySpan<float> kept = _kept[items[i]] ??= Fetch(items[i]);
            for (int layer = 0; layer < _layers.Length; layer++)
                kept.Slice(layer * Width, Width).CopyTo(states.Slice(((layer * items.Length) + i) * Width, Width));
        }
    }

    private float[] Fetch(int item)
    {
        float[] chosen = new float[_layers.Length * Width];
        if (item == 0)
            return chosen;
        if (!_source.Read(_items[item], _all))
            return chosen;

        for (int i = 0; i < _layers.Length; i++)
            _all.AsSpan(_layers[i] * Width, Width).CopyTo(chosen.AsSpan(i * Width));
        int bad = Array.FindIndex(chosen, value => !float.IsFinite(value));
        return bad < 0
            ? chosen
            : throw new DataException($"modality \"{_name}\": item \"{_items[item]}\" has {chosen[bad]} in the state of layer {_layers[bad / Width]}; states must be finite numbers");
    }
}
