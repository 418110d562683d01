using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Tensors;

namespace CudaMoE.Encoders;

/// <summary>
/// A frozen Vision Transformer, read from a folder in the layout of HuggingFace's ViTModel: <c>config.json</c> and <c>model.safetensors</c>. Pictures come
/// as pixel values that are scaled and normalised already.
/// </summary>
/// <remarks>A batch allocates nothing. Not thread-safe.</remarks>
public sealed class ImageEncoder : IDisposable
{
    private const int MaxImages = 64;
    private readonly FrozenEncoder _encoder;
    private readonly bool _normalize;
    private readonly int[] _ids;
    private readonly int[] _lengths;
    private readonly float[] _patches;

    private ImageEncoder(FrozenEncoder encoder, EncoderConfig config, EncoderOptions options, TokenPooling pooling)
    {
        _encoder = encoder;
        _normalize = options.Normalize;
        Config = config;
        LayerNumbers = options.LayersOf(config);
        Pooling = pooling;
        _ids = new int[encoder.MaxRows];
        _lengths = new int[encoder.MaxSequences];
        _patches = new float[checked(encoder.MaxRows * config.Channels * config.PatchSize * config.PatchSize)];
        Array.Fill(_lengths, config.MaxTokens);
        for (int i = 0; i < _ids.Length; i++)
            _ids[i] = i % config.MaxTokens;
    }

    /// <summary>What <c>config.json</c> says.</summary>
    public EncoderConfig Config { get; }

    /// <summary>The layers whose states are given, ascending.</summary>
    public IReadOnlyList<int> LayerNumbers { get; }

    /// <summary>Numbers of a state.</summary>
    public int Width => Config.Width;

    /// <summary>Numbers of a picture: its states, one after the other.</summary>
    public int StateCount => LayerNumbers.Count * Width;

    /// <summary>How a picture's patches become one state.</summary>
    public TokenPooling Pooling { get; }

    /// <summary>Pictures of a batch.</summary>
    public int BatchImages => _encoder.MaxSequences;

    /// <summary>Bytes of device memory that the encoder holds.</summary>
    public long DeviceBytes => _encoder.DeviceBytes;

    /// <summary>Reads an encoder.</summary>
    /// <param name="folder">Its folder.</param>
    /// <param name="device">Where it computes; must live as long as the encoder.</param>
    /// <param name="options">What is wanted; null = the state of every layer. The most tokens of a text have no effect.</param>
    /// <exception cref="CheckpointFormatException">A file is missing, broken, or asks for what is not supported; the message names file, key or tensor.</exception>
    /// <exception cref="CudaMoEException">The options do not fit the encoder, or memory could not be had.</exception>
    public static ImageEncoder Open(string folder, Device device, EncoderOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(device);
        options ??= new();
        EncoderConfig config = EncoderConfig.Read(folder);
        if (config.Kind != EncoderKind.Vit)
            throw new CheckpointFormatException(Path.Combine(folder, "config.json"), "model_type is not \"vit\"; pictures need one");
        if (options.BatchTokens is < 1 or > 1 << 20)
            throw new CudaMoEException($"{options.BatchTokens} tokens of a batch are wanted; they must be 1 to {1 << 20}");
        int images = Math.Clamp(options.BatchTokens / config.MaxTokens, 1, MaxImages);
        TokenPooling pooling = options.Pooling ?? TokenPooling.Cls;
        using EncoderWeights weights = EncoderWeights.Open(folder, config.Kind);
        FrozenEncoder encoder = new(device, config, weights, options, pooling, images * config.MaxTokens, images);
        return new(encoder, config, options, pooling);
    }

    /// <summary>Computes the states of pictures.</summary>
    /// <param name="pixels">[pictures, channels, height, width].</param>
    /// <param name="states">Receives [pictures, layers, width].</param>
    public void Encode(ReadOnlySpan<float> pixels, Span<float> states)
    {
        int count = pixels.Length / Config.PixelCount;
        if (count * Config.PixelCount != pixels.Length)
            throw new ArgumentException($"{pixels.Length} numbers; a picture has {Config.PixelCount}", nameof(pixels));
        if (states.Length != (long)count * StateCount)
            throw new ArgumentException($"{states.Length} numbers; {count} pictures have {(long)count * StateCount}", nameof(states));
        for (int done = 0; done < count;)
        {
            int batch = Math.Min(BatchImages, count - done);
            int rows = batch * Config.MaxTokens;
            int patch = _patches.Length / _ids.Length;
            for (int i = 0; i < batch; i++)
                Cut(pixels.Slice((done + i) * Config.PixelCount, Config.PixelCount), _patches.AsSpan(i * Config.MaxTokens * patch, Config.MaxTokens * patch));
            Span<float> target = states.Slice(done * StateCount, batch * StateCount);
            _encoder.Run(_lengths.AsSpan(0, batch), Config.MaxTokens, _ids.AsSpan(0, rows), _patches.AsSpan(0, rows * patch), target);
            done += batch;
        }

        if (_normalize)
            UnitLength.Scale(states, Width);
    }

    /// <inheritdoc/>
    public void Dispose() => _encoder.Dispose();

    /// <summary>Cuts a picture into rows of one patch each, behind a row of zeros for the class token; a patch is [channel, row, column], as the weights are.</summary>
    private void Cut(ReadOnlySpan<float> pixels, Span<float> rows)
    {
        int size = Config.ImageSize, patch = Config.PatchSize, side = size / patch;
        int length = Config.Channels * patch * patch;
        rows[..length].Clear();
        int at = length;
        for (int top = 0; top < side; top++)
        {
            for (int left = 0; left < side; left++)
            {
                for (int channel = 0; channel < Config.Channels; channel++)
                {
                    for (int y = 0; y < patch; y++, at += patch)
                        pixels.Slice((((channel * size) + (top * patch) + y) * size) + (left * patch), patch).CopyTo(rows[at..]);
                }
            }
        }
    }
}
