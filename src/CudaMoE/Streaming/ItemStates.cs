namespace CudaMoE.Streaming;

/// <summary>
/// The states of a frozen encoder for items: for each item one vector a layer, layer 0 being the encoder's embedding output. A model reads them and never
/// changes them. An item that lacks the modality (a text, a picture) has states of zeros.
/// </summary>
/// <remarks>Implementations are safe for concurrent reads.</remarks>
public interface IItemStates
{
    /// <summary>Layers, the embedding output counted: 13 for a BERT-base or ViT-base encoder.</summary>
    int Layers { get; }

    /// <summary>Numbers of a state.</summary>
    int Width { get; }

    /// <summary>Writes the states of an item.</summary>
    /// <param name="item">The item's name.</param>
    /// <param name="states">[layers, width], all written; zeros when the item has none.</param>
    /// <returns>Whether the item has the modality.</returns>
    bool Read(string item, Span<float> states);
}

/// <summary>Standard normal numbers of a key: the same on every machine, whatever was drawn before.</summary>
internal struct KeyedNormals
{
    private ulong _state;
    private double _spare;
    private bool _hasSpare;

    public KeyedNormals(ulong key) => _state = key;

    /// <summary>The next number (Box and Muller 1958).</summary>
    public float Next()
    {
        if (_hasSpare)
        {
            _hasSpare = false;
            return (float)_spare;
        }

        double radius = Math.Sqrt(-2 * Math.Log(1 - Uniform()));
        (double sine, double cosine) = Math.SinCos(2 * Math.PI * Uniform());
        _spare = radius * sine;
        _hasSpare = true;
        return (float)(radius * cosine);
    }

    /// <summary>Uniform in 0 to below 1; SplitMix64 (Steele, Lea and Flood 2014).</summary>
    private double Uniform()
    {
        ulong z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return ((z ^ (z >> 31)) >> 11) * (1.0 / (1L << 53));
    }
}
