using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using CudaMoE.Checkpoints;
using CudaMoE.Streaming;
using CudaMoE.Tests.Support;

namespace CudaMoE.Cli.Tests;

/// <summary><c>cudamoe encode</c> as a user runs it: states, vectors that a model then trains on, and what is refused.</summary>
public sealed class EncodeTests : IDisposable
{
    private const int Width = 8;
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Encode_ATable_WritesTheStatesOfTheChosenLayers()
    {
        string encoder = WriteEncoder(), items = Write("items.tsv", "item_id\ttitle\tkind", "a\tred shoe\tb", "b\t\t", "c\tshoe\t");
        string to = Path.Combine(_folder.Path, "states.safetensors");
        ToolResult text = ToolProcess.RunHere("encode", items, "--separator", "tab", "--encoder", encoder, "--text", "title", "--text", "kind", "--to", to, "--device", TestDevices.Default);
        Assert.True(text.ExitCode == 0, text.Error);
        Assert.StartsWith($"{to}: 2 x {Width} numbers of layers 0,1,2, pooling cls, 8 tokens, ", text.Output, StringComparison.Ordinal);
        ToolResult json = ToolProcess.RunHere(
            "encode", items, "--separator", "tab", "--encoder", encoder, "--text", "title", "--to", to, "--layers", "0,2", "--pooling", "mean", "--type", "f32", "--normalize", "--output", "json");
        Assert.Equal(0, json.ExitCode);
        JsonNode answer = JsonNode.Parse(json.Output)!;
        Assert.Equal((2, Width, 7), ((int)answer["items"]!, (int)answer["width"]!, (int)answer["tokens"]!));
        using StateFile file = StateFile.Open(to);
        Assert.Equal((2, 2, Width), (file.Count, file.Layers, file.Width));
        float[] states = new float[2 * Width];
        Assert.True(file.Read("c", states));
        Assert.Equal(1, states[Width..].Sum(x => (double)x * x), 1e-5);
        Assert.False(file.Read("b", states));
    }

    [Fact]
    public void Encode_ToATable_MakesAFeatureThatAModelTrainsOn()
    {
        string encoder = WriteEncoder();
        Random random = new(1);
        string[] words = ["red", "shoe", "b"];
        string table = Write("data.csv", ["title,y", .. Enumerable.Range(0, 60).Select(_ => $"{words[random.Next(3)]} {words[random.Next(3)]},{random.Next(2)}")]);
        string to = Path.Combine(_folder.Path, "vectors.csv");
        ToolResult encoded = ToolProcess.RunHere("encode", table, "--encoder", encoder, "--text", "title", "--to", to, "--column", "v", "--output", "json");
        Assert.True(encoded.ExitCode == 0, encoded.Error);
        Assert.Equal(60, (int)JsonNode.Parse(encoded.Output)!["items"]!);
        Write(
            "model.json",
            $$"""
            {
              "name": "vectors",
              "features": [{ "name": "v", "type": "vector", "size": {{Width}} }],
              "tasks": [{ "name": "y", "type": "binary" }],
              "architecture": { "type": "mmoe", "experts": { "count": 2, "layers": [8] }, "tower": [4] },
              "training": { "batch_size": 16, "epochs": 1 },
              "data": { "train": ["vectors.csv"] }
            }
            """);
        ToolResult trained = ToolProcess.RunHere("train", Path.Combine(_folder.Path, "model.json"), "--runs", Path.Combine(_folder.Path, "runs"), "--no-report", "--device", TestDevices.Default);
        Assert.True(trained.ExitCode == 0, trained.Error);
    }

    [Theory]
    [InlineData(2, "there is nothing to encode", "--encoder", "ENCODER", "--to", "x.safetensors")]
    [InlineData(2, "--text is missing", "TABLE", "--encoder", "ENCODER", "--to", "x.safetensors")]
    [InlineData(2, "there is no file nowhere.csv", "nowhere.csv", "--text", "title", "--encoder", "ENCODER", "--to", "x.safetensors")]
    [InlineData(2, "--layers is 0,x; it must be all, last, or numbers", "TABLE", "--text", "title", "--encoder", "ENCODER", "--to", "x.safetensors", "--layers", "0,x")]
    [InlineData(2, "the states of pictures go to a .safetensors file", "--pixels", "p", "--encoder", "ENCODER", "--to", "x.csv")]
    [InlineData(1, "the encoder has the states 0 to 2", "TABLE", "--text", "title", "--encoder", "ENCODER", "--to", "x.safetensors", "--layers", "3")]
    [InlineData(2, "needs the column \"titel\", which the file does not have; did you mean \"title\"?", "TABLE", "--text", "titel", "--encoder", "ENCODER", "--to", "x.safetensors")]
    [InlineData(2, "config.json: is missing", "TABLE", "--text", "title", "--encoder", "nowhere", "--to", "x.safetensors")]
    [InlineData(1, "3 states a text; a column takes one", "TABLE", "--text", "title", "--encoder", "ENCODER", "--to", "x.csv", "--layers", "all")]
    public void Encode_WrongCall_NamesTheFault(int exit, string message, params string[] arguments)
    {
        string encoder = WriteEncoder(), table = Write("items.csv", "item_id,title", "a,red");
        ToolResult result = ToolProcess.RunHere(["encode", .. arguments.Select(argument => argument switch
        {
            "ENCODER" => encoder,
            "TABLE" => table,
            "x.safetensors" or "x.csv" => Path.Combine(_folder.Path, argument),
            _ => argument,
        })]);
        Assert.Contains(message, result.Error, StringComparison.Ordinal);
        Assert.Equal(exit, result.ExitCode);
        Assert.False(File.Exists(Path.Combine(_folder.Path, "x.safetensors")) || File.Exists(Path.Combine(_folder.Path, "x.csv")));
    }

    private string Write(string name, params string[] lines)
    {
        string path = Path.Combine(_folder.Path, name);
        File.WriteAllLines(path, lines);
        return path;
    }

    /// <summary>A BERT of two small blocks with random weights.</summary>
    private string WriteEncoder()
    {
        string folder = Path.Combine(_folder.Path, "encoder");
        Directory.CreateDirectory(folder);
        string[] vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "shoe", "b"];
        File.WriteAllText(Path.Combine(folder, "vocab.txt"), string.Join('\n', vocabulary), new UTF8Encoding(false));
        File.WriteAllText(
            Path.Combine(folder, "config.json"),
            string.Create(
                CultureInfo.InvariantCulture,
                $$"""{"model_type":"bert","hidden_size":{{Width}},"num_attention_heads":2,"num_hidden_layers":2,"intermediate_size":12,"hidden_act":"gelu","max_position_embeddings":9,"vocab_size":{{vocabulary.Length}},"type_vocab_size":2}"""));
        Random random = new(3);
        SafetensorsWriter writer = new();
        Add("embeddings.word_embeddings.weight", vocabulary.Length, Width);
        Add("embeddings.position_embeddings.weight", 9, Width);
        Add("embeddings.token_type_embeddings.weight", 2, Width);
        Dense("embeddings.LayerNorm");
        for (int i = 0; i < 2; i++)
        {
            string layer = $"encoder.layer.{i}.";
            foreach (string square in (string[])["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"])
                Dense(layer + square, Width, Width);
            Dense(layer + "attention.output.LayerNorm");
            Dense(layer + "intermediate.dense", 12, Width);
            Dense(layer + "output.dense", Width, 12);
            Dense(layer + "output.LayerNorm");
        }

        writer.Save(Path.Combine(folder, "model.safetensors"));
        return folder;

        void Dense(string name, params long[] shape)
        {
            Add($"{name}.weight", shape.Length == 0 ? [Width] : shape);
            Add($"{name}.bias", shape.Length == 0 ? Width : shape[0]);
        }

        void Add(string name, params long[] shape)
        {
            float[] values = new float[shape.Aggregate(1L, (a, b) => a * b)];
            for (int i = 0; i < values.Length; i++)
                values[i] = (float)(random.NextDouble() - 0.5);
            writer.Add(name, TensorDataType.F32, shape, values);
        }
    }
}
