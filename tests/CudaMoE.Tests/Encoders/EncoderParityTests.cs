using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Encoders;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Encoders;

/// <summary>Encoders with random weights against plain references in double precision, on every device.</summary>
public sealed class EncoderParityTests(ITestOutputHelper output) : IDisposable
{
    private const double Tolerance = 1e-5;
    private readonly TemporaryFolder _folder = new();
    private readonly int _seed = Random.Shared.Next();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [DeviceData]
    public void Bert_EveryLayerOfRaggedTexts_IsTheReferences(string spec)
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], Seed());
        string[] texts = ["red shoes, a green dress!", "", "the", "reder ba ab aab unknown 中中", string.Join(' ', Enumerable.Repeat("a", 50)), "red shoes, a green dress!"];
        using Device device = Device.Open(spec);
        foreach (TokenPooling pooling in Enum.GetValues<TokenPooling>())
        {
            using TextEncoder encoder = TextEncoder.Open(folder.Path, device, new() { Pooling = pooling, BatchTokens = 30 });
            Check(folder, encoder, texts);
            Assert.Equal(1, encoder.Truncated);
        }
    }

    [Theory]
    [DeviceData("relu")]
    [DeviceData("silu")]
    public void Bert_OtherActivations_AreTheReferences(string deviceName, string activation)
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], Seed(), width: 33, heads: 1, blocks: 1, feedForward: 17, activation: activation);
        using Device device = Device.Open(deviceName);
        using TextEncoder encoder = TextEncoder.Open(folder.Path, device);
        Check(folder, encoder, ["red dress", "a"]);
    }

    [Theory]
    [DeviceData(TensorDataType.F32, "bert.", false)]
    [DeviceData(TensorDataType.F16, "", false)]
    [DeviceData(TensorDataType.BF16, "bert.", true)]
    public void Bert_TypesPrefixesAndOldNames_AreRead(string deviceName, TensorDataType type, string prefix, bool old)
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], Seed());
        string[] heads = [$"{prefix}pooler.dense.bias", $"{prefix}embeddings.position_ids", prefix.Length > 0 ? "cls.predictions.bias" : "classifier.bias"];
        folder.Save(prefix, type, old ? name => name.Replace("LayerNorm.weight", "LayerNorm.gamma").Replace("LayerNorm.bias", "LayerNorm.beta") : null, heads);
        using Device device = Device.Open(deviceName);
        using TextEncoder encoder = TextEncoder.Open(folder.Path, device);
        Check(folder, encoder, ["green shoes!", "the red, red dress"]);
    }

    [Theory]
    [DeviceData]
    public void Bert_ChosenLayersOutputAndNormalization_ArePartsOfAllStates(string deviceName)
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], Seed(), blocks: 3);
        string[] texts = ["red shoes", "a green dress, the dress"];
        using Device device = Device.Open(deviceName);
        float[] all = Encode(device, folder, new(), texts, layers: 4);
        float[] some = Encode(device, folder, new() { Layers = [0, 2] }, texts, layers: 2);
        float[] last = Encode(device, folder, new() { OutputOnly = true, Normalize = true }, texts, layers: 1);
        const int width = 24;
        for (int text = 0; text < texts.Length; text++)
        {
            Span<float> whole = all.AsSpan(text * 4 * width, 4 * width);
            Assert.Equal(whole[..width], some.AsSpan(text * 2 * width, width));
            Assert.Equal(whole.Slice(2 * width, width), some.AsSpan(((text * 2) + 1) * width, width));
            double norm = Math.Sqrt(whole[(3 * width)..].ToArray().Sum(x => (double)x * x));
            for (int j = 0; j < width; j++)
                Assert.Equal(whole[(3 * width) + j] / norm, last[(text * width) + j], 1e-6);
        }
    }

    /// <summary>What a text gives does not depend on the texts beside it, so an item's state is the same in every file.</summary>
    [Fact]
    public void Bert_AloneOrInAnyBatch_HasTheSameBitsOnTheCpu()
    {
        EncoderFolder folder = EncoderFolder.Bert(_folder["bert"], Seed(), width: 64, heads: 4, feedForward: 128, positions: 64);
        Random random = new(_seed);
        string[] texts = [.. Enumerable.Range(0, 60).Select(_ => string.Join(' ', Enumerable.Range(0, random.Next(1, 50)).Select(_ => EncoderFolder.Vocabulary[random.Next(5, 16)])))];
        float[][] runs = [.. new[] { (1, 2048), (2, 2048), (2, 100), (1, 64) }.Select(run =>
        {
            using Device device = Device.Open($"cpu:threads={run.Item1}");
            return Encode(device, folder, new() { BatchTokens = run.Item2 }, texts, layers: 3);
        })];
        Assert.All(runs, run => Assert.Equal(runs[0], run));
    }

    [Theory]
    [DeviceData]
    public void Vit_EveryLayer_IsTheReferences(string spec)
    {
        EncoderFolder folder = EncoderFolder.Vit(_folder["vit"], Seed());
        using Device device = Device.Open(spec);
        CheckPictures(folder, device, count: 3, batchTokens: 20);
    }

    [Theory]
    [DeviceData]
    public void Vit_WithoutQkvBias_WithPrefixAndHalves_IsTheReferences(string deviceName)
    {
        EncoderFolder folder = EncoderFolder.Vit(_folder["vit"], Seed(), image: 15, patch: 5, bias: false);
        folder.Save("vit.", TensorDataType.F16, null, "vit.pooler.dense.weight", "classifier.weight", "vit.embeddings.mask_token");
        using Device device = Device.Open(deviceName);
        CheckPictures(folder, device, count: 1, batchTokens: 2048);
    }

    [Theory]
    [DeviceData]
    public void Batches_OnceWarm_AllocateNothing(string deviceName)
    {
        EncoderFolder folder = EncoderFolder.Vit(_folder["vit"], Seed());
        using Device device = Device.Open(deviceName);
        using ImageEncoder encoder = ImageEncoder.Open(folder.Path, device, new() { BatchTokens = 20 });
        float[] pixels = new float[9 * encoder.Config.PixelCount];
        float[] states = new float[9 * encoder.StateCount];
        encoder.Encode(pixels, states);
        long before = GC.GetAllocatedBytesForCurrentThread();
        encoder.Encode(pixels, states);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private static float[] Encode(Device device, EncoderFolder folder, EncoderOptions options, string[] texts, int layers)
    {
        using TextEncoder encoder = TextEncoder.Open(folder.Path, device, options);
        Assert.Equal(layers * encoder.Width, encoder.StateCount);
        float[] states = new float[texts.Length * encoder.StateCount];
        Array.Fill(states, float.NaN);
        encoder.Encode(texts, states);
        return states;
    }

    private static void Check(EncoderFolder folder, TextEncoder encoder, string[] texts)
    {
        float[] states = new float[texts.Length * encoder.StateCount];
        Array.Fill(states, float.NaN);
        encoder.Encode(texts, states);
        WordPieceTokenizer tokenizer = new([.. EncoderFolder.Vocabulary]);
        for (int text = 0; text < texts.Length; text++)
        {
            List<double[][]> expected = EncoderReference.Bert(folder, tokenizer.Encode(texts[text], encoder.MaxTokens));
            for (int layer = 0; layer < expected.Count; layer++)
            {
                double[] state = encoder.Pooling == TokenPooling.Mean ? EncoderReference.Mean(expected[layer]) : expected[layer][0];
                for (int j = 0; j < state.Length; j++)
                    Assert.Equal(state[j], states[(((text * expected.Count) + layer) * state.Length) + j], Tolerance);
            }
        }
    }

    private void CheckPictures(EncoderFolder folder, Device device, int count, int batchTokens)
    {
        Random random = new(_seed);
        foreach (TokenPooling pooling in Enum.GetValues<TokenPooling>())
        {
            using ImageEncoder encoder = ImageEncoder.Open(folder.Path, device, new() { Pooling = pooling, BatchTokens = batchTokens });
            using ImageEncoder final = ImageEncoder.Open(folder.Path, device, new() { Pooling = pooling, BatchTokens = batchTokens, OutputOnly = true });
            float[] pixels = [.. Enumerable.Range(0, count * encoder.Config.PixelCount).Select(_ => (float)((2 * random.NextDouble()) - 1))];
            float[] states = new float[count * encoder.StateCount], outputs = new float[count * final.StateCount];
            encoder.Encode(pixels, states);
            final.Encode(pixels, outputs);
            int width = encoder.Width;
            for (int i = 0; i < count; i++)
            {
                List<double[][]> expected = EncoderReference.Vit(folder, pixels.AsSpan(i * encoder.Config.PixelCount, encoder.Config.PixelCount));
                for (int layer = 0; layer < expected.Count; layer++)
                {
                    double[] state = pooling == TokenPooling.Mean ? EncoderReference.Mean(expected[layer]) : expected[layer][0];
                    ReadOnlySpan<float> actual = layer == encoder.Config.Layers ? outputs.AsSpan(i * width, width) : states.AsSpan(((i * encoder.Config.Layers) + layer) * width, width);
                    for (int j = 0; j < width; j++)
                        Assert.Equal(state[j], actual[j], Tolerance);
                }
            }
        }
    }

    private int Seed()
    {
        output.WriteLine($"seed {_seed}");
        return _seed;
    }
}
