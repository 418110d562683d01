using System.Numerics.Tensors;
using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Tensors;

namespace CudaMoE.Encoders;

/// <summary>
/// A frozen text encoder of BERT's architecture, read from a folder in HuggingFace's layout: <c>config.json</c>, <c>model.safetensors</c>, <c>vocab.txt</c>
/// and, if there, <c>tokenizer_config.json</c> and what sentence-transformers adds.
/// </summary>
/// <remarks>
/// Texts are sorted by length and run in batches of <see cref="EncoderOptions.BatchTokens"/> tokens; a batch allocates nothing. Not thread-safe.
/// </remarks>
public sealed class TextEncoder : IDisposable
{
    private const int MaxSequences = 256;
    private readonly WordPieceTokenizer _tokenizer;
    private readonly FrozenEncoder _encoder;
    private readonly bool _normalize;
    private readonly int[] _ids;
    private readonly int[] _lengths;
    private readonly float[] _states;

    private TextEncoder(WordPieceTokenizer tokenizer, FrozenEncoder encoder, EncoderConfig config, EncoderOptions options, TokenPooling pooling, int maxTokens)
    {
        _tokenizer = tokenizer;
        _encoder = encoder;
        _normalize = options.Normalize;
        Config = config;
        LayerNumbers = options.LayersOf(config);
        Pooling = pooling;
        MaxTokens = maxTokens;
        _ids = new int[encoder.MaxRows * encoder.IdsPerToken];
        _lengths = new int[encoder.MaxSequences];
        _states = new float[encoder.MaxSequences * StateCount];
    }

    /// <summary>What <c>config.json</c> says.</summary>
    public EncoderConfig Config { get; }

    /// <summary>The layers whose states are given, ascending.</summary>
    public IReadOnlyList<int> LayerNumbers { get; }

    /// <summary>Numbers of a state.</summary>
    public int Width => Config.Width;

    /// <summary>Numbers of a text: its states, one after the other.</summary>
    public int StateCount => LayerNumbers.Count * Width;

    /// <summary>How a text's tokens become one state.</summary>
    public TokenPooling Pooling { get; }

    /// <summary>Tokens of a text at most; what is behind them is left out.</summary>
    public int MaxTokens { get; }

    /// <summary>Bytes of device memory that the encoder holds.</summary>
    public long DeviceBytes => _encoder.DeviceBytes;

    /// <summary>Tokens of all texts so far, without padding.</summary>
    public long Tokens { get; private set; }

    /// <summary>Rows that were computed so far, padding included.</summary>
    public long PaddedTokens { get; private set; }

    /// <summary>Texts so far that were longer than <see cref="MaxTokens"/>.</summary>
    public long Truncated { get; private set; }

    /// <summary>Reads an encoder.</summary>
    /// <param name="folder">Its folder.</param>
    /// <param name="device">Where it computes; must live as long as the encoder.</param>
    /// <param name="options">What is wanted; null = the state of every layer.</param>
    /// <exception cref="CheckpointFormatException">A file is missing, broken, or asks for what is not supported; the message names file, key or tensor.</exception>
    /// <exception cref="CudaMoEException">The options do not fit the encoder, or memory could not be had.</exception>
    public static TextEncoder Open(string folder, Device device, EncoderOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= new();
        EncoderConfig config = EncoderConfig.Read(folder);
        if (config.Kind != EncoderKind.Bert)
            throw new CheckpointFormatException(Path.Combine(folder, "config.json"), "model_type is \"vit\", an encoder of pictures; texts need a bert");
        TextSettings settings = TextSettings.Read(folder, config);
        string vocabulary = Path.Combine(folder, "vocab.txt");
        if (!File.Exists(vocabulary))
            throw new CheckpointFormatException(vocabulary, "is missing; a text encoder needs the WordPiece vocabulary, a token a line");
        WordPieceTokenizer tokenizer = WordPieceTokenizer.Read(vocabulary, settings.Tokenizer);
        if (tokenizer.VocabularySize > config.VocabularySize)
            throw new CheckpointFormatException(vocabulary, $"has {tokenizer.VocabularySize} tokens; vocab_size of config.json is {config.VocabularySize}");
        if (options.MaxTokens is { } wanted && (wanted < 2 || wanted > config.MaxTokens))
            throw new CudaMoEException($"{wanted} tokens of a text are wanted; the encoder takes 2 to {config.MaxTokens}");
        if (options.BatchTokens is < 1 or > 1 << 20)
            throw new CudaMoEException($"{options.BatchTokens} tokens of a batch are wanted; they must be 1 to {1 << 20}");
        int maxTokens = options.MaxTokens ?? settings.MaxTokens;
        int rows = Math.Max(options.BatchTokens, maxTokens);
        TokenPooling pooling = options.Pooling ?? settings.Pooling ?? TokenPooling.Cls;
        using EncoderWeights weights = EncoderWeights.Open(folder, config.Kind);
        FrozenEncoder encoder = new(device, config, weights, options, pooling, rows, Math.Min(MaxSequences, rows / 2));
        return new(tokenizer, encoder, config, options, pooling, maxTokens);
    }

    /// <summary>Computes the states of texts.</summary>
    /// <param name="texts">The texts, in any order.</param>
    /// <param name="states">Receives [texts, layers, width].</param>
    /// <param name="progress">Told how many texts are done; may be null.</param>
    /// <param name="cancellation">Checked before each batch.</param>
    public void Encode(IReadOnlyList<string> texts, Span<float> states, Action<int>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(texts);
        if (states.Length != (long)texts.Count * StateCount)
            throw new ArgumentException($"{states.Length} numbers; {texts.Count} texts have {(long)texts.Count * StateCount}", nameof(states));
        int[][] tokens = new int[texts.Count][];
        int[] order = new int[texts.Count];
        long[] keys = new long[texts.Count];
        for (int i = 0; i < tokens.Length; i++)
        {
            tokens[i] = _tokenizer.Encode(texts[i], MaxTokens, out bool truncated);
            Truncated += truncated ? 1 : 0;
            order[i] = i;
            keys[i] = ((long)-tokens[i].Length << 32) + i;
        }

        // Longest first, so that the texts of a batch are about equally long.
        Array.Sort(keys, order);
        for (int done = 0; done < order.Length;)
        {
            cancellation.ThrowIfCancellationRequested();
            done += Batch(tokens, order.AsSpan(done), states);
            progress?.Invoke(done);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _encoder.Dispose();

    /// <summary>Runs as many texts as fit, and returns their number.</summary>
    private int Batch(int[][] tokens, ReadOnlySpan<int> order, Span<float> states)
    {
        int longest = tokens[order[0]].Length;
        int count = Math.Min(order.Length, Math.Min(_encoder.MaxSequences, _encoder.MaxRows / longest));
        int types = Config.VocabularySize;
        int positions = types + Config.TokenTypes;
        int at = 0;
        for (int s = 0; s < count; s++)
        {
            int[] text = tokens[order[s]];
            _lengths[s] = text.Length;
            Tokens += text.Length;
            for (int t = 0; t < longest; t++)
            {
                _ids[at++] = t < text.Length ? text[t] : _tokenizer.PaddingId;
                _ids[at++] = types;
                _ids[at++] = positions + t;
            }
        }

        PaddedTokens += (long)count * longest;
        _encoder.Run(_lengths.AsSpan(0, count), longest, _ids.AsSpan(0, at), [], _states);
        for (int s = 0; s < count; s++)
        {
            Span<float> state = states.Slice(order[s] * StateCount, StateCount);
            _states.AsSpan(s * StateCount, StateCount).CopyTo(state);
            if (_normalize)
                UnitLength.Scale(state, Width);
        }

        return count;
    }
}

/// <summary>Scales states to length 1.</summary>
internal static class UnitLength
{
    /// <summary>Scales each of the states that lie one after the other; one of zeros stays.</summary>
    public static void Scale(Span<float> states, int width)
    {
        for (int start = 0; start < states.Length; start += width)
        {
            Span<float> state = states.Slice(start, width);
            float norm = TensorPrimitives.Norm<float>(state);
            if (norm > 0)
                TensorPrimitives.Divide(state, norm, state);
        }
    }
}
