using CudaMoE.Encoders;

namespace CudaMoE.Streaming;

/// <summary>
/// The states of texts, computed when they are asked for: the asked one together with those behind it in the list, so that reading in the order of the list
/// runs the encoder once for each text, in large batches.
/// </summary>
internal sealed class EncodedTextStates : IItemStates
{
    // Computed states that are held at a time: 64 MiB, but no more texts than sort well.
    private const int HeldNumbers = 1 << 24;
    private const int MostHeld = 8192;
    private readonly IReadOnlyList<KeyValuePair<string, string>> _texts;
    private readonly TextEncoder _encoder;
    private readonly CancellationToken _cancellation;
    private readonly Dictionary<string, int> _places = new(StringComparer.Ordinal);
    private readonly float[] _held;
    private readonly int _capacity;
    private int _first;
    private int _count;

    /// <param name="texts">Names and texts of the items, each once.</param>
    /// <param name="encoder">The encoder; it must live as long as this.</param>
    /// <param name="cancellation">Ends a read.</param>
    public EncodedTextStates(IReadOnlyList<KeyValuePair<string, string>> texts, TextEncoder encoder, CancellationToken cancellation)
    {
        _texts = texts;
        _encoder = encoder;
        _cancellation = cancellation;
        for (int i = 0; i < texts.Count; i++)
            _places.Add(texts[i].Key, i);
        _capacity = Math.Min(Math.Clamp(HeldNumbers / encoder.StateCount, 64, MostHeld), texts.Count);
        _held = new float[checked(_capacity * encoder.StateCount)];
    }

    public int Layers => _encoder.LayerNumbers.Count;

    public int Width => _encoder.Width;

    public bool Read(string item, Span<float> states)
    {
        int numbers = _encoder.StateCount;
        if (!_places.TryGetValue(item, out int place))
        {
            states[..numbers].Clear();
            return false;
        }

        lock (_held)
        {
            if (place < _first || place >= _first + _count)
            {
                (_first, _count) = (place, 0);
                int count = Math.Min(_capacity, _texts.Count - place);
                string[] texts = [.. Enumerable.Range(place, count).Select(i => _texts[i].Value)];
                _encoder.Encode(texts, _held.AsSpan(0, count * numbers), null, _cancellation);
                _count = count;
            }

            _held.AsSpan((place - _first) * numbers, numbers).CopyTo(states);
            return true;
        }
    }
}

/// <summary>The states of pictures, computed when they are asked for, as in <see cref="EncodedTextStates"/>.</summary>
internal sealed class EncodedImageStates : IItemStates
{
    private readonly PixelFile _file;
    private readonly ImageEncoder _encoder;
    private readonly IReadOnlyList<int> _pictures;
    private readonly CancellationToken _cancellation;
    private readonly Dictionary<string, int> _places = new(StringComparer.Ordinal);
    private readonly float[] _pixels;
    private readonly float[] _held;
    private int _first;
    private int _count;

    /// <param name="file">The pictures.</param>
    /// <param name="pictures">Those that are asked for, by their places in the file, in the order of reading.</param>
    /// <param name="encoder">The encoder; both must live as long as this.</param>
    /// <param name="cancellation">Ends a read.</param>
    public EncodedImageStates(PixelFile file, IReadOnlyList<int> pictures, ImageEncoder encoder, CancellationToken cancellation)
    {
        _file = file;
        _encoder = encoder;
        _pictures = pictures;
        _cancellation = cancellation;
        file.CheckSize(encoder.Config.Channels, encoder.Config.ImageSize, encoder.Config.ImageSize);
        for (int i = 0; i < pictures.Count; i++)
            _places.Add(file.Items[pictures[i]], i);
        _pixels = new float[checked(encoder.BatchImages * encoder.Config.PixelCount)];
        _held = new float[encoder.BatchImages * encoder.StateCount];
    }

    public int Layers => _encoder.LayerNumbers.Count;

    public int Width => _encoder.Width;

    public bool Read(string item, Span<float> states)
    {
        int numbers = _encoder.StateCount, pixels = _encoder.Config.PixelCount;
        if (!_places.TryGetValue(item, out int place))
        {
            states[..numbers].Clear();
            return false;
        }

        lock (_held)
        {
            if (place < _first || place >= _first + _count)
            {
                _cancellation.ThrowIfCancellationRequested();
                (_first, _count) = (place, 0);
                int count = Math.Min(_encoder.BatchImages, _pictures.Count - place);
                for (int i = 0; i < count; i++)
                    _file.Read(_pictures[place + i], _pixels.AsSpan(i * pixels, pixels));
                _encoder.Encode(_pixels.AsSpan(0, count * pixels), _held.AsSpan(0, count * numbers));
                _count = count;
            }

            _held.AsSpan((place - _first) * numbers, numbers).CopyTo(states);
            return true;
        }
    }
}
