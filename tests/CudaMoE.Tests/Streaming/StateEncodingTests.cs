using System.Globalization;
using System.IO.Compression;
using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Encoders;
using CudaMoE.Streaming;
using CudaMoE.Tensors;
using CudaMoE.Tests.Encoders;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Streaming;

/// <summary>Encoders run over items: files of states, columns of vectors, and a stream that runs its encoder once.</summary>
public sealed class StateEncodingTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly Device _device = Device.Open(TestDevices.Default);

    public void Dispose()
    {
        _device.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void Texts_OfATable_BecomeAFileOfStates()
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], 2);
        File.WriteAllText(_folder["items.csv"], "item_id,title,more\nx,red shoes,a\ny,,\nz,\"dress, green\",NA\nx,the,\n\"w\",\" \",the\n");
        IReadOnlyList<KeyValuePair<string, string>> texts = StateEncoding.ReadTexts(_folder["items.csv"], new() { Missing = ["NA"] }, "item_id", ["title", "more"]);
        Assert.Equal([new("x", "red shoes a"), new("z", "dress, green"), new("w", "  the")], texts);

        using TextEncoder encoder = TextEncoder.Open(folder.Path, _device, new() { Layers = [0, 2], Pooling = TokenPooling.Mean });
        int told = 0;
        StateEncoding.Write(_folder["s.safetensors"], texts, encoder, StateType.F32, done => told = done, new Dictionary<string, string> { ["note"] = "n" });
        Assert.Equal(3, told);
        using StateFile file = StateFile.Open(_folder["s.safetensors"]);
        Assert.Equal((3, 2, 24), (file.Count, file.Layers, file.Width));
        Assert.Equal(("0,2", "mean", "n"), (file.Metadata["layers"], file.Metadata["pooling"], file.Metadata["note"]));
        float[] all = new float[3 * 48], one = new float[48];
        encoder.Encode([.. texts.Select(text => text.Value)], all);
        for (int i = 0; i < 3; i++)
        {
            Assert.True(file.Read(texts[i].Key, one));
            Assert.Equal(all[(i * 48)..((i + 1) * 48)], one);
        }
    }

    [Fact]
    public void Pictures_BecomeAFileOfStates_AndOtherSizesAreRefused()
    {
        EncoderFolder folder = EncoderFolder.Vit(_folder["vit"], 3);
        WritePixels("pixels", 12, "a", "b", "c", "d", "e");
        using ImageEncoder encoder = ImageEncoder.Open(folder.Path, _device, new() { BatchTokens = 20 });
        Assert.Equal(2, encoder.BatchImages);
        using PixelFile pictures = PixelFile.Open(_folder["pixels"]);
        StateEncoding.Write(_folder["s"], pictures, ["e", "b", "a", "nobody"], encoder, StateType.F32);
        using StateFile file = StateFile.Open(_folder["s"]);
        Assert.Equal(3, file.Count);
        float[] pixels = new float[encoder.Config.PixelCount], expected = new float[encoder.StateCount], read = new float[encoder.StateCount];
        foreach ((string item, int place) in new[] { ("a", 0), ("b", 1), ("e", 4) })
        {
            pictures.Read(place, pixels);
            encoder.Encode(pixels, expected);
            Assert.True(file.Read(item, read));
            Assert.Equal(expected, read);
        }

        WritePixels("small", 8, "a");
        using PixelFile small = PixelFile.Open(_folder["small"]);
        Assert.Contains(
            "is [1, 3, 8, 8]; the encoder reads pictures of [3, 12, 12]",
            Assert.Throws<CheckpointFormatException>(() => StateEncoding.Write(_folder["t"], small, null, encoder)).Message,
            StringComparison.Ordinal);
        SafetensorsWriter writer = new();
        writer.Add("pixel_values", TensorDataType.F32, [2, 2], new float[4]);
        writer.Save(_folder["flat"]);
        Assert.Contains("it must be f32, f16 or bf16 [items, channels, height, width]", Assert.Throws<CheckpointFormatException>(() => PixelFile.Open(_folder["flat"])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Cancelled_LeavesTheOldFile()
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], 2);
        using TextEncoder encoder = TextEncoder.Open(folder.Path, _device);
        StateEncoding.Write(_folder["s"], [new("a", "red")], encoder);
        byte[] before = File.ReadAllBytes(_folder["s"]);
        using CancellationTokenSource source = new();
        source.Cancel();
        Assert.Throws<OperationCanceledException>(() => StateEncoding.Write(_folder["s"], [new("b", "red")], encoder, cancellation: source.Token));
        Assert.Equal(before, File.ReadAllBytes(_folder["s"]));
        Assert.Equal(2, Directory.GetFileSystemEntries(_folder.Root).Length);
    }

    [Theory]
    [InlineData("out.csv")]
    [InlineData("out.csv.gz")]
    public void VectorColumn_CopiesTheTable_AndAddsEachRowsVector(string name)
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], 4);
        using TextEncoder encoder = TextEncoder.Open(folder.Path, _device, new() { OutputOnly = true, Normalize = true });
        File.WriteAllText(_folder["in.csv"], "id,\"the title\",n\n1,red shoes,3\n2,,4\n,\"say \"\"a\"\", b\",\" 5\"\n4,red shoes,\"\"\n");
        VectorColumnResult result = VectorColumn.Append(_folder["in.csv"], new(), ["the title"], encoder, _folder[name], "vector");
        Assert.Equal(new(4, 1, 2), result);

        using Stream file = File.OpenRead(_folder[name]);
        using Stream plain = name.EndsWith(".gz", StringComparison.Ordinal) ? new GZipStream(file, CompressionMode.Decompress) : file;
        string[] lines = new StreamReader(plain).ReadToEnd().Split('\n');
        Assert.Equal("id,the title,n,vector", lines[0]);
        Assert.StartsWith("1,red shoes,3,", lines[1], StringComparison.Ordinal);
        Assert.Equal("2,,4,", lines[2]);
        Assert.StartsWith(",\"say \"\"a\"\", b\",\" 5\",", lines[3], StringComparison.Ordinal);
        Assert.Equal(lines[1].Split(',')[^1], lines[4].Split(',')[^1]);
        float[] expected = new float[48];
        encoder.Encode(["red shoes", "say \"a\", b"], expected);
        Assert.Equal(expected[..24], Vector(lines[1]));
        Assert.Equal(expected[24..], Vector(lines[3]));

        static float[] Vector(string line) => [.. line.Split(',')[^1].Split('|').Select(x => float.Parse(x, CultureInfo.InvariantCulture))];
    }

    [Fact]
    public void VectorColumn_WithWhatDoesNotFit_IsRefused()
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], 4);
        using TextEncoder one = TextEncoder.Open(folder.Path, _device, new() { OutputOnly = true });
        using TextEncoder all = TextEncoder.Open(folder.Path, _device);
        File.WriteAllText(_folder["in.csv"], "id,title\n1,a\n");
        Assert.Contains("3 states a text; a column takes one", Error(all, "v", '|'), StringComparison.Ordinal);
        Assert.Contains("it must be an ASCII character that is no part of a number", Error(one, "v", ','), StringComparison.Ordinal);
        Assert.Contains("it must be an ASCII character that is no part of a number", Error(one, "v", '-'), StringComparison.Ordinal);
        Assert.Contains("has a column \"id\" already", Error(one, "id", '|'), StringComparison.Ordinal);
        Assert.Contains("needs the column \"titel\"", Error(one, "v", '|', "titel"), StringComparison.Ordinal);
        Assert.Contains("is the table itself", Error(one, "v", '|', "title", "in.csv"), StringComparison.Ordinal);
        Assert.False(File.Exists(_folder["out"]));

        string Error(TextEncoder encoder, string column, char separator, string text = "title", string output = "out") =>
            Assert.ThrowsAny<CudaMoEException>(() => VectorColumn.Append(_folder["in.csv"], new(), [text], encoder, _folder[output], column, separator)).Message;
    }

    /// <summary>The encoder's states are those of a file that was written apart; they are computed once, and again when what they follow from changes.</summary>
    [Fact]
    public void Stream_WithAnEncoder_TrainsAsWithItsFile_AndRunsItOnce()
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], 5);
        EncoderFolder vit = EncoderFolder.Vit(_folder["vit"], 5);
        string[] names = [.. Enumerable.Range(0, 12).Select(i => $"i{i}")];
        Random random = new(7);
        File.WriteAllLines(_folder["log.csv"], ["user_id,item_id,time", .. Enumerable.Range(0, 120).Select(i => $"u{random.Next(4)},i{random.Next(12)},{i}")]);
        File.WriteAllLines(_folder["items.csv"], ["item_id,title", .. names.Skip(1).Select(name => $"{name},{EncoderFolder.Vocabulary[5 + random.Next(8)]} {EncoderFolder.Vocabulary[5 + random.Next(8)]}"), "other,red"]);
        WritePixels("pixels", 12, names);
        ModalityDescription text = new() { Name = "text", Source = StateSource.Encoder, Encoder = folder.Path, Columns = ["title"], Pooling = TokenPooling.Mean };
        ModalityDescription image = new() { Name = "image", Source = StateSource.Encoder, Encoder = vit.Path, Pixels = _folder["pixels"] };
        StreamDescription description = Describe(text, image);
        Encodings encodings = new();

        StreamResult first = StreamTrainer.Run(description, new() { Device = TestDevices.Default, Folder = _folder["run"] }, encodings);
        Assert.Equal(["text 11", "image 12"], encodings.Done);
        string kept = Path.Combine(_folder["run"], "states", "text.safetensors");
        using (StateFile file = StateFile.Open(kept))
            Assert.Equal((11, 3, 24), (file.Count, file.Layers, file.Width));

        // The same states from files give the same run.
        StreamResult again = StreamTrainer.Run(
            Describe(
                new() { Name = "text", Source = StateSource.File, File = kept },
                new() { Name = "image", Source = StateSource.File, File = Path.Combine(_folder["run"], "states", "image.safetensors") }),
            new() { Device = TestDevices.Default, Folder = _folder["again"] });
        Assert.Equal(first.Windows.Select(window => (window.Loss, window.Test)), again.Windows.Select(window => (window.Loss, window.Test)));

        // A file that is named is shared by runs.
        encodings.Done.Clear();
        StreamDescription shared = Describe(text with { File = _folder["kept"] }, image with { File = _folder["kept-images"] });
        StreamTrainer.Run(shared, new() { Device = TestDevices.Default, Folder = _folder["a"] }, encodings);
        StreamTrainer.Run(shared, new() { Device = TestDevices.Default, Folder = _folder["b"] }, encodings);
        Assert.Equal(2, encodings.Done.Count);

        // Another weight, and the states are made anew; those of the other modality are kept.
        folder.Tensors["embeddings.LayerNorm.bias"].Values[0] += 1;
        folder.Save();
        StreamTrainer.Run(shared, new() { Device = TestDevices.Default, Folder = _folder["c"] }, encodings);
        Assert.Equal("text 11", Assert.Single(encodings.Done.Skip(2)));

        StreamDescription foreign = Describe(text with { File = _folder["foreign"] }, image);
        StateFile.Write(_folder["foreign"], ["i1"], new SyntheticStates(3, 24, 2, 1));
        Assert.Contains("which no encoder of a stream wrote", Fault(foreign), StringComparison.Ordinal);
        Assert.Contains("modalities[0] has states of 3 layers, 0 to 2; model.layers asks for 5", Fault(description with { Model = description.Model with { Layers = [1, 5] } }), StringComparison.Ordinal);
        File.WriteAllText(_folder["items.csv"], "item_id,title\nsomebody,red\n");
        Assert.Contains("modalities[0].columns hold no text of any item of the log", Fault(description), StringComparison.Ordinal);

        string Fault(StreamDescription wrong) => Assert.ThrowsAny<CudaMoEException>(() => StreamTrainer.Run(wrong, new() { Device = TestDevices.Default, Folder = _folder[Guid.NewGuid().ToString()] })).Message;
    }

    [Theory]
    [InlineData("modalities[0].encoder is missing; the source encoder needs the encoder's folder", null, "title", null, null, StateSource.Encoder)]
    [InlineData("modalities[0].columns is empty; the source encoder needs either columns", "e", null, null, null, StateSource.Encoder)]
    [InlineData("modalities[0].columns is given beside pixels; the source encoder needs either columns", "e", "title", "p", null, StateSource.Encoder)]
    [InlineData("modalities[0].max_tokens has no effect on pictures; remove it", "e", null, "p", 8, StateSource.Encoder)]
    [InlineData("modalities[0].max_tokens is 1; it must be", "e", "title", null, 1, StateSource.Encoder)]
    [InlineData("modalities[0].encoder has no effect; only the source encoder has it; remove it", "e", "title", null, null, StateSource.Text)]
    [InlineData("modalities[0].pixels has no effect; only the source encoder has it; remove it", null, "title", "p", null, StateSource.Text)]
    [InlineData("modalities[0].max_tokens has no effect; only the source encoder has it; remove it", null, "title", null, 8, StateSource.Text)]
    public void Description_OfAnEncoder_HasItsRules(string message, string? encoder, string? column, string? pixels, int? maxTokens, StateSource source)
    {
        StreamDescription description = Describe(new ModalityDescription { Name = "m", Source = source, Encoder = encoder, Columns = column is null ? [] : [column], Pixels = pixels, MaxTokens = maxTokens });
        Assert.Contains(message, Assert.Throws<DescriptionException>(() => StreamDescriptionJson.Validate(description)).Message, StringComparison.Ordinal);
    }

    private StreamDescription Describe(params ModalityDescription[] modalities) => new()
    {
        Name = "small",
        Data = new() { Log = [_folder["log.csv"]], Windows = 3, UserCore = 2 },
        Items = new() { File = _folder["items.csv"] },
        Modalities = modalities,
        Model = new() { Adapter = 4, Hidden = 16, FeedForward = 16, Blocks = 1, History = 5 },
        Training = new() { BatchSize = 4, Epochs = 3, QuietEpochs = 1, Patience = 3 },
    };

    private void WritePixels(string name, int size, params string[] items)
    {
        Random random = new(11);
        float[] pixels = [.. Enumerable.Range(0, items.Length * 3 * size * size).Select(_ => (float)random.NextDouble())];
        SafetensorsWriter writer = new();
        writer.Add("pixel_values", TensorDataType.F32, [items.Length, 3, size, size], pixels);
        writer.Add("names", TensorDataType.U8, [items.Sum(item => item.Length)], Encoding.UTF8.GetBytes(string.Concat(items)));
        long end = 0;
        writer.Add("name_ends", TensorDataType.I64, [items.Length], items.Select(item => end += item.Length).ToArray());
        writer.Save(_folder[name]);
    }

    private sealed class Encodings : IStreamObserver
    {
        public List<string> Done { get; } = [];

        public void OnEncoded(string modality, int done, int count)
        {
            if (done == count)
                Done.Add($"{modality} {count}");
        }

        public void OnStarted(InteractionStream stream, int done)
        {
        }

        public void OnEpoch(int window, int epoch, double loss, double? ndcg)
        {
        }

        public void OnWindow(StreamWindowResult result)
        {
        }
    }
}
