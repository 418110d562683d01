using CudaMoE.Checkpoints;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Cli.Tests;

/// <summary>Weights in the layout of XSMoE's authors, through <c>import</c> and <c>probe</c>, against their code's forward pass in double precision and its differences.</summary>
public sealed class XsmoeImportTests : IDisposable
{
    private const int Items = 7;
    private const int Width = 6;
    private const int Hidden = 8;
    private const int History = 4;
    private readonly TemporaryFolder _folder = new();
    private readonly Random _random;

    // Item 5 twice in a row, a sequence without padding, one of two items, items that several users have.
    private readonly int[][] _ids = [[0, 1, 2, 3, 4], [5, 5, 2, 6, 1], [0, 0, 0, 7, 3]];

    public XsmoeImportTests(ITestOutputHelper output)
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        _random = new(seed);
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [DeviceData(true)]
    [DeviceData(false)]
    public void Probe_OfImportedWeights_IsTheLibrarysForwardAndItsDerivatives(string device, bool bias)
    {
        XsmoeLibrary library = new(Width, [[1, 3], [2, 2]], adapter: 3, Hidden, heads: 2, blocks: 2, History, _random);
        WriteStream(bias);
        Save("theirs.safetensors", library.Tensors.ToDictionary(t => $"module.{t.Key}", t => t.Value));
        ToolResult imported = Import("--layout", "xsmoe", "--prefix", "module.");
        Assert.True(imported.ExitCode == 0, imported.Error);
        Assert.Contains($"from {library.Tensors.Count} tensors", imported.Output, StringComparison.Ordinal);

        float[][] states = [Numbers((Items + 1) * 3 * Width), Numbers((Items + 1) * 3 * Width)];
        foreach (float[] side in states)
            side.AsSpan(0, 3 * Width).Clear();
        float[] popularity = [1, .. Enumerable.Range(0, Items).Select(_ => (float)(0.05 + _random.NextDouble()))];
        Dictionary<string, float[]> answer = Probe(device, states, popularity);

        double[][] vectors = Vectors();
        CheckOutputs(answer, library, vectors);
        double[] shares = [.. popularity.Select(share => (double)share)];
        Assert.Equal(library.Loss(_ids, vectors, shares), answer["outputs.loss"][0], 1e-5);
        CheckGradients(answer, library, () => library.Loss(_ids, Vectors(), shares));

        double[][] Vectors() => [.. Enumerable.Range(0, Items + 1).Select(item => library.Item([.. states.Select(side =>
            Enumerable.Range(0, 3).Select(layer => side.AsSpan(((item * 3) + layer) * Width, Width).ToArray().Select(v => (double)v).ToArray()).ToArray())]))];
    }

    [Fact]
    public void Import_TensorsThatDoNotFit_AreNamed()
    {
        XsmoeLibrary library = new(Width, [[1, 1], [1, 1]], adapter: 3, Hidden, heads: 2, blocks: 2, History, _random);
        library.Tensors.Remove("multimodal_encoder.cv_encoder.moes.1.experts.0.fc_up.weight");
        library.Tensors["more"] = ([1], [0]);
        WriteStream(bias: false);
        Save("theirs.safetensors", library.Tensors);

        ToolResult result = Import("--layout", "xsmoe");

        Assert.Equal(2, result.ExitCode);
        Assert.Contains("tensor \"multimodal_encoder.cv_encoder.moes.1.experts.0.fc_up.weight\" [6, 3] of parameter \"image.layers.1.experts.0.up\" is missing", result.Error, StringComparison.Ordinal);
        Assert.Contains("tensor \"more\" [1] has no place", result.Error, StringComparison.Ordinal);
        Assert.Contains("is a stream file; import takes its parameters with --layout xsmoe", Import("--layout", "adatt").Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Probe_WrongInputs_AreRefused()
    {
        XsmoeLibrary library = new(Width, [[1, 1], [1, 1]], adapter: 3, Hidden, heads: 2, blocks: 2, History, _random);
        WriteStream(bias: false);
        Save("theirs.safetensors", library.Tensors);
        Assert.Equal(0, Import("--layout", "xsmoe").ExitCode);
        float[][] states = [Numbers((Items + 1) * 3 * Width), Numbers((Items + 1) * 3 * Width)];

        Assert.Contains("row 0 has a 0 behind an item", Run(TestDevices.Default, states, null, [1, 0, 2, 3, 4]).Error, StringComparison.Ordinal);
        Assert.Contains("sequence 0 has item 8; items are 1 to 7", Run(TestDevices.Default, states, null, [0, 0, 0, 8, 4]).Error, StringComparison.Ordinal);
        Assert.Contains("sequence 0 has 1 items; it must be 2 to 5", Run(TestDevices.Default, states, null, [0, 0, 0, 0, 4]).Error, StringComparison.Ordinal);
        Assert.Contains("popularity has 3 numbers; it must be 8", Run(TestDevices.Default, states, [1, 1, 1], [0, 0, 0, 1, 4]).Error, StringComparison.Ordinal);
        Assert.Contains("an item whose popularity is not a number above 0", Run(TestDevices.Default, states, new float[8], [0, 0, 0, 1, 4]).Error, StringComparison.Ordinal);
        Assert.Contains("tensor \"states.text\"", Run(TestDevices.Default, [states[0]], null, [0, 0, 0, 1, 4]).Error, StringComparison.Ordinal);
    }

    private void CheckOutputs(Dictionary<string, float[]> answer, XsmoeLibrary library, double[][] vectors)
    {
        for (int item = 1; item <= Items; item++)
        {
            for (int i = 0; i < Hidden; i++)
                Near(vectors[item][i], answer["outputs.items"][(item * Hidden) + i], "items");
        }

        for (int s = 0; s < _ids.Length; s++)
        {
            bool[] valid = [.. _ids[s].Take(History).Select(id => id != 0)];
            double[][] users = library.Users([.. _ids[s].Take(History).Select(id => vectors[id])], valid);
            for (int p = 0; p < History; p++)
            {
                for (int i = 0; i < Hidden; i++)
                    Near(valid[p] ? users[p][i] : 0, answer["outputs.users"][(((s * History) + p) * Hidden) + i], "users");
            }

            for (int item = 1; item <= Items; item++)
                Near(users[^1].Zip(vectors[item], (a, b) => a * b).Sum(), answer["outputs.scores"][(s * (Items + 1)) + item], "scores");
        }
    }

    private void CheckGradients(Dictionary<string, float[]> answer, XsmoeLibrary library, Func<double> loss)
    {
        const double step = 1e-6;
        foreach ((string name, (long[] shape, float[] values)) in library.Tensors)
        {
            foreach (int index in new[] { 0, values.Length - 1, _random.Next(values.Length) })
            {
                library.Changed = (name, index, values[index] + step);
                double above = loss();
                library.Changed = (name, index, values[index] - step);
                double below = loss();
                library.Changed = null;
                (string ours, int place) = Place(name, shape, index);
                Near((above - below) / (2 * step), answer[$"gradients.{ours}"][place], name);
            }
        }
    }

    /// <summary>Where a number of a released tensor is here.</summary>
    private static (string Name, int Index) Place(string name, long[] shape, int index)
    {
        string[] parts = name.Split('.');
        string last = parts[^1];
        return parts switch
        {
            [_, "com_dense", _] => ($"fusion.{last}", index),
            [_, var ladder, "routers", var j, ..] => ($"{Modality(ladder)}.layers.{j}.router.weight", index),
            [_, var ladder, "moes", var j, _, var k, "fc_down", _] => ($"{Modality(ladder)}.layers.{j}.experts.{k}.down", index),
            [_, var ladder, "moes", var j, _, var k, _, _] => ($"{Modality(ladder)}.layers.{j}.experts.{k}.up", (int)((index % shape[1] * shape[0]) + (index / shape[1]))),
            [_, _, "position_embedding", _] => ("user.positions", index),
            [_, _, "layer_norm", _] => ($"user.norm.{last}", index),
            [_, _, _, var b, "multi_head_attention", "layer_norm", _] => ($"user.blocks.{b}.attention_norm.{last}", index),
            [_, _, _, var b, "multi_head_attention", "fc", _] => ($"user.blocks.{b}.attention.output.weight", index),
            [_, _, _, var b, "multi_head_attention", var part, _] => ($"user.blocks.{b}.attention.qkv.weight", index + (Array.IndexOf(["w_Q", "w_K", "w_V"], part) * Hidden * Hidden)),
            [_, _, _, var b, _, "layer_norm", _] => ($"user.blocks.{b}.feed_forward_norm.{last}", index),
            [_, _, _, var b, _, var part, _] => ($"user.blocks.{b}.feed_forward.{(part == "w_1" ? 0 : 1)}.{last}", index),
            _ => throw new ArgumentException(name),
        };

        static string Modality(string ladder) => ladder == "cv_encoder" ? "image" : "text";
    }

    private static void Near(double expected, float actual, string what) =>
        Assert.True(Math.Abs(expected - actual) <= 1e-5 * (1 + Math.Abs(expected)), $"{what}: {actual}; expected {expected}");

    private ToolResult Import(params string[] more) =>
        ToolProcess.RunHere(["import", In("stream.json"), "--from", In("theirs.safetensors"), "--to", In("ours.safetensors"), .. more]);

    private Dictionary<string, float[]> Probe(string device, float[][] states, float[] popularity)
    {
        ToolResult result = Run(device, states, popularity, [.. _ids.SelectMany(row => row)]);
        Assert.True(result.ExitCode == 0, result.Error);
        using SafetensorsReader reader = SafetensorsReader.Open(In("answer.safetensors"));
        return reader.Header.Tensors.ToDictionary(t => t.Name, t =>
        {
            float[] values = new float[t.Count];
            reader.ReadSingles(t.Name, values);
            return values;
        });
    }

    private ToolResult Run(string device, float[][] states, float[]? popularity, int[] ids)
    {
        SafetensorsWriter writer = new();
        foreach ((float[] side, string name) in states.Zip(["image", "text"]))
            writer.Add<float>($"states.{name}", TensorDataType.F32, [Items + 1, 3, Width], side);
        writer.Add<int>("sequences", TensorDataType.I32, [ids.Length / (History + 1), History + 1], ids);
        if (popularity is not null)
            writer.Add<float>("popularity", TensorDataType.F32, [popularity.Length], popularity);
        writer.Save(In("inputs.safetensors"));
        return ToolProcess.RunHere(
            "probe", In("stream.json"), "--parameters", In("ours.safetensors"), "--inputs", In("inputs.safetensors"), "--to", In("answer.safetensors"), "--device", device);
    }

    private void WriteStream(bool bias) => _folder.Write(
        "stream.json",
        $$"""
        {
          "name": "ported",
          "data": { "log": ["log.csv"] },
          "modalities": [{ "name": "image", "source": "file", "file": "vit.states" }, { "name": "text", "source": "file", "file": "bert.states" }],
          "model": { "layers": [6, 12], "adapter": 3, "hidden": {{Hidden}}, "heads": 2, "blocks": 2, "feed_forward": {{4 * Hidden}}, "history": {{History}}, "attention_bias": {{(bias ? "true" : "false")}} },
        }
        """);

    private void Save(string name, Dictionary<string, (long[] Shape, float[] Values)> tensors)
    {
        SafetensorsWriter writer = new();
        foreach ((string tensor, (long[] shape, float[] values)) in tensors)
            writer.Add(tensor, TensorDataType.F32, shape, values);
        writer.Save(In(name));
    }

    private float[] Numbers(int count) => [.. Enumerable.Range(0, count).Select(_ => (float)(_random.NextDouble() - 0.5))];

    private string In(string name) => Path.Combine(_folder.Path, name);
}
