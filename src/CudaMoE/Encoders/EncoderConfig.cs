using System.Globalization;
using CudaMoE.Checkpoints;
using CudaMoE.Description;

namespace CudaMoE.Encoders;

/// <summary>Kinds of encoders.</summary>
public enum EncoderKind
{
    /// <summary>BERT's architecture: texts (Devlin et al. 2019); MiniLM is one.</summary>
    Bert,

    /// <summary>Vision Transformer: pictures (Dosovitskiy et al. 2021).</summary>
    Vit,
}

/// <summary>What <c>config.json</c> of an encoder's folder says, under the names of HuggingFace.</summary>
public sealed record EncoderConfig
{
    /// <summary><c>model_type</c>: bert or vit.</summary>
    public required EncoderKind Kind { get; init; }

    /// <summary><c>hidden_size</c>: numbers of a state.</summary>
    public required int Width { get; init; }

    /// <summary><c>num_hidden_layers</c>: blocks; there is one state more.</summary>
    public required int Blocks { get; init; }

    /// <summary><c>num_attention_heads</c>.</summary>
    public required int Heads { get; init; }

    /// <summary><c>intermediate_size</c>: width between the two layers of a block's feed-forward part.</summary>
    public required int FeedForward { get; init; }

    /// <summary><c>hidden_act</c>: gelu (the exact one, with erf), relu or silu.</summary>
    public ActivationKind Activation { get; init; } = ActivationKind.Gelu;

    /// <summary><c>layer_norm_eps</c>.</summary>
    public float Epsilon { get; init; } = 1e-12f;

    /// <summary>Tokens of a sequence at most: <c>max_position_embeddings</c>, or patches and the class token.</summary>
    public required int MaxTokens { get; init; }

    /// <summary><c>vocab_size</c> (bert).</summary>
    public int VocabularySize { get; init; }

    /// <summary><c>type_vocab_size</c> (bert).</summary>
    public int TokenTypes { get; init; }

    /// <summary><c>num_channels</c> (vit).</summary>
    public int Channels { get; init; }

    /// <summary><c>image_size</c> (vit): height and width of a picture.</summary>
    public int ImageSize { get; init; }

    /// <summary><c>patch_size</c> (vit): height and width of a patch.</summary>
    public int PatchSize { get; init; }

    /// <summary><c>qkv_bias</c> (vit): whether queries, keys and values have biases.</summary>
    public bool QkvBias { get; init; } = true;

    /// <summary>States of a token: the embedding output and one a block.</summary>
    public int Layers => Blocks + 1;

    /// <summary>Numbers of a picture (vit): channels, height, width.</summary>
    public int PixelCount => checked(Channels * ImageSize * ImageSize);

    /// <summary>Reads <c>config.json</c>.</summary>
    /// <param name="folder">The encoder's folder.</param>
    /// <exception cref="CheckpointFormatException">It is missing or broken, or asks for what is not supported; the message names the key.</exception>
    public static EncoderConfig Read(string folder)
    {
        string path = Path.Combine(folder, "config.json");
        EncoderJson json = EncoderJson.Open(path) ?? throw new CheckpointFormatException(path, Directory.Exists(folder)
            ? "is missing; an encoder's folder has config.json, model.safetensors and, for texts, vocab.txt"
            : "is missing, and so is its folder; name the folder that holds config.json, model.safetensors and, for texts, vocab.txt");
        json.Require("model_type", "bert", "vit");
        bool vit = json.Text("model_type") == "vit";
        json.Require("is_decoder", "false");
        json.Require("add_cross_attention", "false");
        json.Require("position_embedding_type", "absolute");
        json.Require("chunk_size_feed_forward", "0");
        json.Require("hidden_act", "gelu", "relu", "silu", "swish");
        int width = json.Integer("hidden_size", 1, 8192);
        int heads = json.Integer("num_attention_heads", 1, 1024);
        if (width % heads != 0 || width / heads > 256)
            throw new CheckpointFormatException(path, $"num_attention_heads is {heads}; it must divide hidden_size, {width}, into heads of at most 256");
        EncoderConfig config = new()
        {
            Kind = vit ? EncoderKind.Vit : EncoderKind.Bert,
            Width = width,
            Heads = heads,
            Blocks = json.Integer("num_hidden_layers", 1, 256),
            FeedForward = json.Integer("intermediate_size", 1, 65536),
            Activation = json.Text("hidden_act") switch { "relu" => ActivationKind.Relu, "silu" or "swish" => ActivationKind.Silu, _ => ActivationKind.Gelu },
            Epsilon = json.Positive("layer_norm_eps", 1e-12f),
            MaxTokens = 0,
        };
        return vit ? Pictures(config, json, path) : Texts(config, json);
    }

    private static EncoderConfig Texts(EncoderConfig config, EncoderJson json)
    {
        // The factorised embeddings of other models; a plain BERT has none, or the width itself.
        json.Require("embedding_size", config.Width.ToString(CultureInfo.InvariantCulture));
        return config with
        {
            MaxTokens = json.Integer("max_position_embeddings", 2, 65536),
            VocabularySize = json.Integer("vocab_size", 1, 10_000_000),
            TokenTypes = json.Integer("type_vocab_size", 1, 1024, 2)!.Value,
        };
    }

    private static EncoderConfig Pictures(EncoderConfig config, EncoderJson json, string path)
    {
        int image = json.Side("image_size", 8192);
        int patch = json.Side("patch_size", 8192);
        if (image % patch != 0)
            throw new CheckpointFormatException(path, $"patch_size is {patch}; it must divide image_size, {image}");
        int side = image / patch;
        if (side > 255)
            throw new CheckpointFormatException(path, $"patch_size is {patch}, which makes {side} x {side} patches of image_size {image}; at most 255 x 255 are supported");
        return config with
        {
            ImageSize = image,
            PatchSize = patch,
            Channels = json.Integer("num_channels", 1, 64, 3)!.Value,
            QkvBias = json.Flag("qkv_bias") ?? true,
            MaxTokens = (side * side) + 1,
        };
    }
}
