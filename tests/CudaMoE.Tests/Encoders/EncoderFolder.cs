using System.Globalization;
using System.Text.Json.Nodes;
using CudaMoE.Checkpoints;
using CudaMoE.Tensors;

namespace CudaMoE.Tests.Encoders;

/// <summary>Folders of small random encoders in HuggingFace's layout, and their tensors for a reference.</summary>
internal sealed class EncoderFolder
{
    public static readonly string[] Vocabulary =
    [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "red", "##d", "##er", "shoe", "##s", "green", "dress", ",", "!", "a", "b", "##a", "##b", "é", "中",
    ];

    private readonly Random _random;

    private EncoderFolder(string path, int seed)
    {
        Path = path;
        _random = new(seed);
        Directory.CreateDirectory(path);
    }

    public string Path { get; }

    public JsonObject Config { get; private set; } = [];

    /// <summary>Tensors by their names without prefix, as the file's type rounds them.</summary>
    public Dictionary<string, (long[] Shape, float[] Values)> Tensors { get; } = new(StringComparer.Ordinal);

    public static EncoderFolder Bert(string path, int seed, int width = 24, int heads = 3, int blocks = 2, int feedForward = 40, int positions = 20, string activation = "gelu")
    {
        EncoderFolder folder = new(path, seed);
        folder.Config = new()
        {
            ["model_type"] = "bert",
            ["hidden_size"] = width,
            ["num_attention_heads"] = heads,
            ["num_hidden_layers"] = blocks,
            ["intermediate_size"] = feedForward,
            ["hidden_act"] = activation,
            ["max_position_embeddings"] = positions,
            ["vocab_size"] = Vocabulary.Length + 2,
            ["type_vocab_size"] = 2,
            ["layer_norm_eps"] = 1e-12,
            ["position_embedding_type"] = "absolute",
            ["hidden_dropout_prob"] = 0.1,
        };
        folder.Add("embeddings.word_embeddings.weight", 1, Vocabulary.Length + 2, width);
        folder.Add("embeddings.position_embeddings.weight", 1, positions, width);
        folder.Add("embeddings.token_type_embeddings.weight", 1, 2, width);
        folder.AddNorm("embeddings.LayerNorm", width);
        for (int i = 0; i < blocks; i++)
        {
            string layer = $"encoder.layer.{i}";
            folder.AddBlock(layer, $"{layer}.attention.self", width, feedForward, bias: true);
            folder.AddNorm($"{layer}.attention.output.LayerNorm", width);
            folder.AddNorm($"{layer}.output.LayerNorm", width);
        }

        File.WriteAllText(System.IO.Path.Combine(path, "vocab.txt"), string.Join('\n', Vocabulary) + "\n");
        folder.Save();
        return folder;
    }

    public static EncoderFolder Vit(string path, int seed, int width = 16, int heads = 2, int blocks = 2, int feedForward = 24, int image = 12, int patch = 4, bool bias = true)
    {
        EncoderFolder folder = new(path, seed);
        folder.Config = new()
        {
            ["model_type"] = "vit",
            ["hidden_size"] = width,
            ["num_attention_heads"] = heads,
            ["num_hidden_layers"] = blocks,
            ["intermediate_size"] = feedForward,
            ["hidden_act"] = "gelu",
            ["image_size"] = image,
            ["patch_size"] = patch,
            ["num_channels"] = 3,
            ["qkv_bias"] = bias,
            ["layer_norm_eps"] = 1e-12,
        };
        int patches = image / patch * (image / patch);
        folder.Add("embeddings.cls_token", 1, 1, 1, width);
        folder.Add("embeddings.position_embeddings", 1, 1, patches + 1, width);
        folder.Add("embeddings.patch_embeddings.projection.weight", 0.15, width, 3, patch, patch);
        folder.Add("embeddings.patch_embeddings.projection.bias", 0.5, width);
        for (int i = 0; i < blocks; i++)
        {
            string layer = $"encoder.layer.{i}";
            folder.AddBlock(layer, $"{layer}.attention.attention", width, feedForward, bias);
            folder.AddNorm($"{layer}.layernorm_before", width);
            folder.AddNorm($"{layer}.layernorm_after", width);
        }

        folder.AddNorm("layernorm", width);
        folder.Save();
        return folder;
    }

    /// <summary>Writes configuration and weights, as they are now.</summary>
    /// <param name="prefix">Before each name.</param>
    /// <param name="type">Of the weights, which are rounded to it.</param>
    /// <param name="rename">What a name becomes.</param>
    /// <param name="extra">Tensors that the encoder does not have.</param>
    public void Save(string prefix = "", TensorDataType type = TensorDataType.F32, Func<string, string>? rename = null, params string[] extra)
    {
        File.WriteAllText(System.IO.Path.Combine(Path, "config.json"), Config.ToJsonString());
        SafetensorsWriter writer = new();
        writer.AddMetadata("format", "pt");
        foreach ((string name, (long[] shape, float[] values)) in Tensors)
        {
            string full = prefix + (rename?.Invoke(name) ?? name);
            switch (type)
            {
                case TensorDataType.F16:
                    Half[] halves = [.. values.Select(x => (Half)x)];
                    halves.Select(x => (float)x).ToArray().CopyTo(values, 0);
                    writer.Add(full, type, shape, halves);
                    break;
                case TensorDataType.BF16:
                    ushort[] rounded = [.. values.Select(BFloat16.FromSingle)];
                    rounded.Select(BFloat16.ToSingle).ToArray().CopyTo(values, 0);
                    writer.Add(full, type, shape, rounded);
                    break;
                default:
                    writer.Add(full, type, shape, values);
                    break;
            }
        }

        foreach (string name in extra)
            writer.Add(name, TensorDataType.F32, [2], new float[2]);
        writer.Save(System.IO.Path.Combine(Path, "model.safetensors"));
    }

    public void Write(string file, string text)
    {
        string path = System.IO.Path.Combine(Path, file);
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
    }

    public double[] Values(string name) => [.. Tensors[name].Values.Select(x => (double)x)];

    public int Number(string key) => (int)Config[key]!;

    private void AddBlock(string layer, string attention, int width, int feedForward, bool bias)
    {
        foreach (string part in (string[])["query", "key", "value"])
        {
            Add($"{attention}.{part}.weight", 1.2 / Math.Sqrt(width), width, width);
            if (bias)
                Add($"{attention}.{part}.bias", 0.5, width);
        }

        AddDense($"{layer}.attention.output.dense", width, width);
        AddDense($"{layer}.intermediate.dense", feedForward, width);
        AddDense($"{layer}.output.dense", width, feedForward);
    }

    private void AddDense(string name, int n, int k)
    {
        Add($"{name}.weight", 1 / Math.Sqrt(k), n, k);
        Add($"{name}.bias", 0.5, n);
    }

    private void AddNorm(string name, int width)
    {
        Add($"{name}.weight", 0.3, width);
        for (int i = 0; i < width; i++)
            Tensors[$"{name}.weight"].Values[i] += 1;
        Add($"{name}.bias", 0.3, width);
    }

    private void Add(string name, double scale, params long[] shape)
    {
        float[] values = new float[shape.Aggregate(1L, (a, b) => a * b)];
        for (int i = 0; i < values.Length; i++)
            values[i] = (float)(scale * Math.Sqrt(-2 * Math.Log(1 - _random.NextDouble())) * Math.Cos(2 * Math.PI * _random.NextDouble()));
        Tensors.Add(name, (shape, values));
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Config["model_type"]} in {Path}");
}
