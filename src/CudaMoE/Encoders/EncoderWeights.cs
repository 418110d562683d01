using System.Numerics.Tensors;
using CudaMoE.Checkpoints;

namespace CudaMoE.Encoders;

/// <summary>
/// <c>model.safetensors</c> of an encoder's folder: tensors of f32, f16 or bf16 under HuggingFace's names, with or without the prefix of the encoder
/// within a larger model. Every tensor of the encoder must be asked for once, in its shape.
/// </summary>
internal sealed class EncoderWeights : IDisposable
{
    // What stands beside an encoder: heads, poolers, and buffers that older versions saved.
    private static readonly string[] PassedOver =
    [
        "pooler.", "cls.", "classifier.", "qa_outputs.", "decoder.", "lm_head.",
        "embeddings.position_ids", "embeddings.token_type_ids", "embeddings.mask_token",
    ];

    private readonly SafetensorsReader _reader;
    private readonly string _prefix;
    private readonly HashSet<string> _read = new(StringComparer.Ordinal);

    private EncoderWeights(string path, SafetensorsReader reader, string prefix)
    {
        File = path;
        _reader = reader;
        _prefix = prefix;
    }

    /// <summary>The file.</summary>
    public string File { get; }

    /// <summary>Opens the file.</summary>
    /// <exception cref="CheckpointFormatException">It is missing or breaks the format.</exception>
    public static EncoderWeights Open(string folder, EncoderKind kind)
    {
        string path = Path.Combine(folder, "model.safetensors");
        if (!System.IO.File.Exists(path))
        {
            string help = System.IO.File.Exists(path + ".index.json") ? "weights in several files are not supported; join them into one"
                : System.IO.File.Exists(Path.Combine(folder, "pytorch_model.bin")) ? "pytorch_model.bin is not read; save the weights as safetensors"
                : "it holds the encoder's weights";
            throw new CheckpointFormatException(path, $"is missing; {help}");
        }

        SafetensorsReader reader = SafetensorsReader.Open(path);
        string prefix = kind == EncoderKind.Bert ? "bert." : "vit.";
        bool inside = reader.Header.Tensors.Any(tensor => tensor.Name.StartsWith(prefix, StringComparison.Ordinal));
        return new(path, reader, inside ? prefix : "");
    }

    /// <summary>Reads a tensor.</summary>
    /// <param name="name">Its name behind the prefix.</param>
    /// <param name="destination">All its elements.</param>
    /// <param name="shape">The shape that it must have.</param>
    /// <exception cref="CheckpointFormatException">It is missing, has another shape or type, or holds a number that is not finite.</exception>
    public void Read(string name, Span<float> destination, params ReadOnlySpan<long> shape)
    {
        string full = Find(name, shape);
        TensorEntry entry = _reader.Header[full];
        if (!entry.Shape.SequenceEqual(shape.ToArray()))
            throw new CheckpointFormatException(File, $"tensor \"{full}\" has shape {entry.ShapeText}; by config.json it must be [{string.Join(", ", shape.ToArray())}]");
        if (entry.Type is not (TensorDataType.F32 or TensorDataType.F16 or TensorDataType.BF16))
            throw new CheckpointFormatException(File, $"tensor \"{full}\" is {entry.Type.Name()}; it must be F32, F16 or BF16");
        _reader.ReadSingles(full, destination);
        if (!TensorPrimitives.IsFiniteAll<float>(destination))
            throw new CheckpointFormatException(File, $"tensor \"{full}\" holds a number that is not finite");
        _read.Add(full);
    }

    /// <summary>Checks that nothing of the encoder is left unread, such as blocks beyond those of <c>config.json</c>.</summary>
    /// <exception cref="CheckpointFormatException">A tensor is; the message names it.</exception>
    public void CheckAllRead()
    {
        foreach (TensorEntry tensor in _reader.Header.Tensors)
        {
            if (_read.Contains(tensor.Name) || !tensor.Name.StartsWith(_prefix, StringComparison.Ordinal))
                continue;
            string name = tensor.Name[_prefix.Length..];
            if (!PassedOver.Any(part => name.StartsWith(part, StringComparison.Ordinal)))
                throw new CheckpointFormatException(File, $"tensor \"{tensor.Name}\" {tensor.ShapeText} is extra: the encoder of config.json has none of this name");
        }
    }

    public void Dispose() => _reader.Dispose();

    /// <summary>The name in the file. Files of older versions call scale and shift of a normalisation gamma and beta.</summary>
    private string Find(string name, ReadOnlySpan<long> shape)
    {
        string full = _prefix + name;
        if (_reader.Header.TryGet(full, out _))
            return full;
        string older = name.Contains("LayerNorm.", StringComparison.Ordinal)
            ? full.Replace("LayerNorm.weight", "LayerNorm.gamma", StringComparison.Ordinal).Replace("LayerNorm.bias", "LayerNorm.beta", StringComparison.Ordinal)
            : full;
        return _reader.Header.TryGet(older, out _)
            ? older
            : throw new CheckpointFormatException(File, $"tensor \"{full}\" [{string.Join(", ", shape.ToArray())}] is missing");
    }
}
