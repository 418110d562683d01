using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Encoders;

/// <summary>
/// The network of an encoder folder with its weights, for batches of padded sequences: embeddings, blocks, and the pooled states of the chosen layers. All
/// memory is allocated when it is made.
/// </summary>
internal sealed unsafe class FrozenEncoder : IDisposable
{
    private readonly LayerContext _context;
    private readonly EncoderConfig _config;
    private readonly EncoderSlots _slots;
    private readonly ParameterBlock _table;
    private readonly RowLookup _embed;
    private readonly FrozenNorm? _embedNorm;
    private readonly Slot? _patches;
    private readonly FrozenLinear? _patchLayer;
    private readonly EncoderBlock[] _blocks;
    private readonly FrozenNorm? _finalNorm;
    private readonly RowLookup _pool;
    private readonly RowLookup? _poolFinal;
    private readonly int[] _places;
    private readonly int _states;
    private readonly int[] _poolIds;
    private readonly int[] _poolOffsets;
    private readonly bool _mean;
    private nint _idsDevice;
    private nint _countsDevice;
    private nint _poolIdsDevice;
    private nint _poolOffsetsDevice;
    private nint _pooled;

    /// <param name="device">Where to compute.</param>
    /// <param name="config">The network.</param>
    /// <param name="weights">Its weights; all of them are read.</param>
    /// <param name="options">Layers, pooling, precision.</param>
    /// <param name="pooling">How a sequence's tokens become one state.</param>
    /// <param name="maxRows">Tokens of a batch, padding included, at most.</param>
    /// <param name="maxSequences">Sequences of a batch, at most.</param>
    public FrozenEncoder(Device device, EncoderConfig config, EncoderWeights weights, EncoderOptions options, TokenPooling pooling, int maxRows, int maxSequences)
    {
        _config = config;
        _mean = pooling == TokenPooling.Mean;
        MaxRows = maxRows;
        MaxSequences = maxSequences;
        _places = new int[config.Layers];
        Array.Fill(_places, -1);
        IReadOnlyList<int> layers = options.LayersOf(config);
        for (int i = 0; i < layers.Count; i++)
            _places[layers[i]] = i;
        _states = layers.Count;
        _poolIds = new int[maxRows];
        _poolOffsets = new int[maxSequences + 1];
        bool pictures = config.Kind == EncoderKind.Vit;
        _context = new(device, options.Precision, 0, new OptimizerDescription(), maxRows, training: false);
        try
        {
            Slot x = _context.Reserve("x", config.Width), y = _context.Reserve("y", config.Width);
            _slots = new(x, y, _context.Reserve("qkv", 3L * config.Width), _context.Reserve("attended", config.Width), _context.Reserve("hidden", config.FeedForward));
            int tableRows = pictures ? config.MaxTokens : config.VocabularySize + config.TokenTypes + config.MaxTokens;
            _table = _context.Parameters.Add("embeddings", ParameterKind.Frozen, tableRows, config.Width);
            _embed = new(_context, () => (nint)_table.Value, tableRows, config.Width, config.Width, mean: false);
            if (pictures)
            {
                _patches = _context.ReserveExact("patches", (long)config.Channels * config.PatchSize * config.PatchSize);
                _patchLayer = new(_context, new("embeddings.patch_embeddings", _patches, x, Accumulate: true, Bias: false));
            }
            else
            {
                _embedNorm = new(_context, "embeddings.LayerNorm", x, x, config.Epsilon);
            }

            int needed = options.OutputOnly ? config.Blocks : layers.Max();
            _blocks = [.. Enumerable.Range(0, config.Blocks).Select(i => new EncoderBlock(_context, config, i, _slots))];
            RunBlocks = needed;
            if (pictures)
                _finalNorm = new(_context, "layernorm", x, y, config.Epsilon);
            _pool = new(_context, () => x.Pointer, maxRows, x.RowStride, config.Width, _mean);
            if (pictures && options.OutputOnly)
                _poolFinal = new(_context, () => y.Pointer, maxRows, y.RowStride, config.Width, _mean);
            Arena arena = _context.Activations;
            arena.Reserve("ids", (long)maxRows * IdsPerToken * sizeof(int), p => _idsDevice = p);
            arena.Reserve("counts", (long)maxSequences * sizeof(int), p => _countsDevice = p);
            arena.Reserve("pool.ids", (long)maxRows * sizeof(int), p => _poolIdsDevice = p);
            arena.Reserve("pool.offsets", (maxSequences + 1L) * sizeof(int), p => _poolOffsetsDevice = p);
            arena.Reserve("pooled", (long)maxSequences * _states * config.Width * sizeof(float), p => _pooled = p);
            _context.Commit();
            Load(weights);
        }
        catch
        {
            _context.Dispose();
            throw;
        }
    }

    /// <summary>Tokens of a batch, padding included, at most.</summary>
    public int MaxRows { get; }

    /// <summary>Sequences of a batch, at most.</summary>
    public int MaxSequences { get; }

    /// <summary>Row numbers of the table that a token's embedding is the sum of: piece, type, position; of a patch, the position.</summary>
    public int IdsPerToken => _config.Kind == EncoderKind.Vit ? 1 : 3;

    /// <summary>Blocks that are run: those behind the highest chosen layer are not.</summary>
    public int RunBlocks { get; }

    /// <summary>Bytes of device memory.</summary>
    public long DeviceBytes => _context.Activations.Bytes + _context.Packed.Bytes + _context.WorkspaceBytes + (_context.Parameters.All.Sum(p => p.Count) * sizeof(float));

    /// <summary>Runs a batch, and waits for it.</summary>
    /// <param name="lengths">Tokens of each sequence, at least 1.</param>
    /// <param name="tokens">Rows of each sequence: at least its tokens.</param>
    /// <param name="ids">[sequences, tokens, ids of a token]; those of padding may be any of the table.</param>
    /// <param name="patches">[sequences, tokens, numbers of a patch], zeros for the class token; empty for texts.</param>
    /// <param name="states">Receives [sequences, chosen layers, width].</param>
    public void Run(ReadOnlySpan<int> lengths, int tokens, ReadOnlySpan<int> ids, ReadOnlySpan<float> patches, Span<float> states)
    {
        DeviceStream stream = _context.Stream;
        int sequences = lengths.Length;
        long rows = (long)sequences * tokens;
        stream.CopyToDevice(ids, _idsDevice);
        stream.CopyToDevice(lengths, _countsDevice);
        int pooled = 0;
        for (int s = 0; s < sequences; s++)
        {
            _poolOffsets[s] = pooled;
            int count = _mean ? lengths[s] : 1;
            for (int t = 0; t < count; t++)
                _poolIds[pooled++] = (s * tokens) + t;
        }

        _poolOffsets[sequences] = pooled;
        stream.CopyToDevice<int>(_poolIds.AsSpan(0, pooled), _poolIdsDevice);
        stream.CopyToDevice<int>(_poolOffsets.AsSpan(0, sequences + 1), _poolOffsetsDevice);

        _embed.Forward(rows, (int*)_idsDevice, ids.Length, null, _slots.X.Pointer, _slots.X.RowStride);
        if (_patchLayer != null)
        {
            stream.CopyToDevice(patches, _patches!.Pointer);
            _patchLayer.Forward(rows);
        }

        _embedNorm?.Forward(rows);
        Pool(0, sequences, pooled);
        for (int block = 0; block < RunBlocks; block++)
        {
            _blocks[block].Forward(sequences, tokens, (int*)_countsDevice);
            Pool(block + 1, sequences, pooled);
        }

        if (_poolFinal != null)
        {
            _finalNorm!.Forward(rows);
            Pool(_poolFinal, 0, sequences, pooled);
        }

        stream.CopyToHost(_pooled, states[..(sequences * _states * _config.Width)]);
    }

    public void Dispose() => _context.Dispose();

    /// <summary>Writes the states of a layer beside those of the others, if it is chosen.</summary>
    private void Pool(int layer, int sequences, int count)
    {
        if (_places[layer] >= 0 && _poolFinal == null)
            Pool(_pool, _places[layer], sequences, count);
    }

    private void Pool(RowLookup lookup, int place, int sequences, int count) =>
        lookup.Forward(sequences, (int*)_poolIdsDevice, count, (int*)_poolOffsetsDevice, _pooled + (nint)((long)place * _config.Width * sizeof(float)), (long)_states * _config.Width);

    private void Load(EncoderWeights weights)
    {
        int width = _config.Width;
        long largest = Math.Max(_blocks[0].LargestWeight, _patchLayer?.WeightCount ?? 0);
        using DeviceBuffer staging = _context.Device.Allocate(largest * sizeof(float));
        float[] host = new float[checked((int)Math.Max(largest, (long)Math.Max(_config.VocabularySize, _config.MaxTokens) * width))];
        if (_config.Kind == EncoderKind.Vit)
            LoadPictures(weights, host, staging);
        else
            LoadTexts(weights, host);
        foreach (EncoderBlock block in _blocks)
            block.Load(weights, host, staging);
        if (_finalNorm != null)
            EncoderBlock.Load(weights, _finalNorm);
        weights.CheckAllRead();

        // The staging memory is freed here.
        _context.Stream.Synchronize();
    }

    /// <summary>The table holds pieces, then types, then positions.</summary>
    private void LoadTexts(EncoderWeights weights, float[] host)
    {
        float* table = _table.Value;
        (string Name, int Rows)[] parts =
        [
            ("word_embeddings", _config.VocabularySize), ("token_type_embeddings", _config.TokenTypes), ("position_embeddings", _config.MaxTokens),
        ];
        foreach ((string name, int rows) in parts)
        {
            Span<float> part = host.AsSpan(0, rows * _config.Width);
            weights.Read($"embeddings.{name}.weight", part, rows, _config.Width);
            _context.Stream.CopyToDevice<float>(part, (nint)table);
            table += part.Length;
        }

        EncoderBlock.Load(weights, _embedNorm!);
    }

    /// <summary>
    /// A convolution whose stride is its size is a product with each patch. Its bias is added to the positions of the patches, and the class token to its
    /// own, so the row of the class token, whose patch is zeros, gets nothing else.
    /// </summary>
    private void LoadPictures(EncoderWeights weights, float[] host, DeviceBuffer staging)
    {
        int width = _config.Width, patch = _config.PatchSize;
        float[] start = new float[width];
        float[] bias = new float[width];
        weights.Read("embeddings.cls_token", start, 1, 1, width);
        weights.Read("embeddings.patch_embeddings.projection.bias", bias, width);
        Span<float> positions = host.AsSpan(0, _config.MaxTokens * width);
        weights.Read("embeddings.position_embeddings", positions, 1, _config.MaxTokens, width);
        for (int i = 0; i < positions.Length; i++)
            positions[i] += i < width ? start[i] : bias[i % width];
        _context.Stream.CopyToDevice<float>(positions, (nint)_table.Value);
        Span<float> kernel = host.AsSpan(0, checked((int)_patchLayer!.WeightCount));
        weights.Read("embeddings.patch_embeddings.projection.weight", kernel, width, _config.Channels, patch, patch);
        _patchLayer.Load(kernel, [], staging);
    }
}
