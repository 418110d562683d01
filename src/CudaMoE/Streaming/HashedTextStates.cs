using System.Globalization;
using System.Numerics.Tensors;
using System.Text;
using CudaMoE.Data;

namespace CudaMoE.Streaming;

/// <summary>
/// States of texts without a trained encoder: each layer is the sum of random vectors of the text's features, normalised to a mean square of 1. What a
/// feature's vector is follows from the seed, the layer and the feature's hash, so the encoder is frozen and needs no file.
/// </summary>
/// <remarks>
/// Features by layer, in turn: words; words and pairs of neighbouring words; runs of three characters of the padded words; runs of four. Words are runs of
/// letters and digits, in lower case. Layers behind the fourth have the same features again with other vectors. A text without a word is as none: zeros.
/// Vectors are kept once drawn, <see cref="KeptVectors"/> at most a layer.
/// </remarks>
public sealed class HashedTextStates : IItemStates
{
    /// <summary>Feature vectors that are kept for each layer, so that frequent features are drawn once.</summary>
    public const int KeptVectors = 1 << 16;

    private const int Families = 4;
    private readonly IReadOnlyDictionary<string, string> _texts;
    private readonly ulong _seed;
    private readonly Dictionary<ulong, float[]>[] _vectors;

    /// <param name="texts">The text of each item that has one.</param>
    /// <param name="layers">Layers.</param>
    /// <param name="width">Numbers of a state.</param>
    /// <param name="seed">The seed.</param>
    public HashedTextStates(IReadOnlyDictionary<string, string> texts, int layers, int width, ulong seed)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(layers, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(width, 1);
        Layers = layers;
        Width = width;
        _texts = texts;
        _seed = seed;
        _vectors = [.. Enumerable.Range(0, layers).Select(_ => new Dictionary<ulong, float[]>())];
    }

    /// <inheritdoc/>
    public int Layers { get; }

    /// <inheritdoc/>
    public int Width { get; }

    /// <summary>The words of a text: runs of letters and digits, in lower case.</summary>
    public static IReadOnlyList<string> Words(string text)
    {
        List<string> words = [];
        StringBuilder word = new();
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (Rune.IsLetterOrDigit(rune))
            {
                word.Append(Rune.ToLowerInvariant(rune).ToString());
            }
            else if (word.Length > 0)
            {
                words.Add(word.ToString());
                word.Clear();
            }
        }

        if (word.Length > 0)
            words.Add(word.ToString());
        return words;
    }

    /// <inheritdoc/>
    public bool Read(string item, Span<float> states)
    {
        states[..(Layers * Width)].Clear();
        IReadOnlyList<string> words = _texts.TryGetValue(item, out string? text) ? Words(text) : [];
        if (words.Count == 0)
            return false;
        for (int layer = 0; layer < Layers; layer++)
        {
            Span<float> state = states.Slice(layer * Width, Width);
            foreach (string feature in Features(words, layer % Families))
                TensorPrimitives.Add(state, Vector(layer, feature), state);
            float norm = TensorPrimitives.Norm<float>(state);
            if (norm > 0)
                TensorPrimitives.Multiply(state, MathF.Sqrt(Width) / norm, state);
        }

        return true;
    }

    private static IEnumerable<string> Features(IReadOnlyList<string> words, int family)
    {
        if (family <= 1)
        {
            foreach (string word in words)
                yield return word;
        }

        if (family == 1)
        {
            for (int i = 1; i < words.Count; i++)
                yield return $"{words[i - 1]} {words[i]}";
        }

        if (family <= 1)
            yield break;
        int length = family + 1;
        foreach (string word in words)
        {
            string padded = $"<{word}>";
            for (int i = 0; i + length <= padded.Length; i++)
                yield return padded.Substring(i, length);
            if (padded.Length < length)
                yield return padded;
        }
    }

    private float[] Vector(int layer, string feature)
    {
        string name = string.Create(CultureInfo.InvariantCulture, $"{layer}:{feature}");
        ulong key = XxHash64.Hash(Encoding.UTF8.GetBytes(name), _seed);
        Dictionary<ulong, float[]> kept = _vectors[layer];
        lock (kept)
        {
            if (kept.TryGetValue(key, out float[]? vector))
                return vector;
            vector = new float[Width];
            KeyedNormals normals = new(key);
            for (int i = 0; i < vector.Length; i++)
                vector[i] = normals.Next();
            if (kept.Count < KeptVectors)
                kept.Add(key, vector);
            return vector;
        }
    }
}
