using CudaMoE.Checkpoints;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Cli.Tests;

/// <summary>Weights in the layout of GRec's released code, through <c>import</c> and <c>probe</c>, against that code's forward pass in double precision and its differences.</summary>
public sealed class GrecImportTests : IDisposable
{
    private const int Rows = 5;
    private readonly TemporaryFolder _folder = new();
    private readonly Random _random;

    public GrecImportTests(ITestOutputHelper output)
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        _random = new(seed);
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [DeviceData]
    public void Probe_OfImportedWeights_IsTheLibrarysForwardAndItsDerivatives(string device)
    {
        GrecLibrary library = new(_random);
        WriteModel();
        Save("theirs.safetensors", library.Tensors.ToDictionary(t => $"torch_model.{t.Key}", t => t.Value));
        ToolResult imported = Import("--layout", "grec", "--prefix", "torch_model.");
        Assert.True(imported.ExitCode == 0, imported.Error);

        GrecSample[] samples = [.. Enumerable.Range(0, Rows).Select(row => Sample(row == 0 ? GrecLibrary.Positions : 1 + _random.Next(GrecLibrary.Positions)))];
        float[][] gradients = [.. Enumerable.Range(0, GrecLibrary.Tasks).Select(_ => Numbers(Rows * GrecLibrary.Items))];
        Dictionary<string, float[]> answer = Probe(device, samples, gradients);

        for (int task = 0; task < GrecLibrary.Tasks; task++)
        {
            for (int row = 0; row < Rows; row++)
            {
                double[] expected = library.Logits(samples[row], task);
                for (int item = 0; item < GrecLibrary.Items; item++)
                    Near(expected[item], answer[$"outputs.task{task}"][(row * GrecLibrary.Items) + item], "outputs");
            }
        }

        CheckGradients(answer, library, () => samples.Select((sample, row) => Enumerable.Range(0, GrecLibrary.Tasks).Sum(task =>
            library.Logits(sample, task).Select((z, item) => z * gradients[task][(row * GrecLibrary.Items) + item]).Sum())).Sum());
    }

    /// <summary>The passes above are only worth something if some tokens find no expert.</summary>
    [Fact]
    public void Library_FiveTokensThreeExpertsOfTwo_DropsSome()
    {
        GrecLibrary library = new(_random);
        int dropped = 0;
        for (int i = 0; i < 200; i++)
        {
            library.Logits(Sample(1 + (i % GrecLibrary.Positions)), i % GrecLibrary.Tasks);
            dropped += library.Dropped;
        }

        Assert.True(dropped > 0);
    }

    [Theory]
    [InlineData("\"pooling\": \"mean_hard_max\"", "\"pooling\": \"mean_max\"", "architecture.grec.pooling is not what the released code of GRec has; for the layout grec it must be mean_hard_max")]
    [InlineData("\"padding\": \"first_row\"", "\"padding\": \"masked\"", "grec.padding")]
    [InlineData("\"overflow\": \"pass\"", "\"overflow\": \"drop\"", "grec.overflow")]
    [InlineData("\"routing\": \"task_sentence\"", "\"routing\": \"token\"", "grec.routing")]
    [InlineData("\"activation_slope\": 0.2", "\"activation_slope\": 0.1", "architecture.activation is not")]
    [InlineData("[\"items_seen\", \"metas_seen\", \"pres_seen\"]", "[\"metas_seen\", \"items_seen\", \"pres_seen\"]", "grec.current")]
    public void Import_OptionsOfAnotherModel_AreRefused(string from, string to, string message)
    {
        WriteModel(text => text.Replace(from, to, StringComparison.Ordinal));
        Save("theirs.safetensors", new() { ["a"] = ([1], [1]) });

        ToolResult result = Import("--layout", "grec");

        Assert.Equal(2, result.ExitCode);
        Assert.Contains(message, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Import_TensorsThatDoNotFit_AreNamed()
    {
        GrecLibrary library = new(_random);
        library.Tensors["sequence_transformer.item_embedding.weight"] = ([GrecLibrary.Items, 4], Numbers(GrecLibrary.Items * 4));
        library.Tensors["task_embedding.1.weight"] = ([3, 8], Numbers(24));
        library.Tensors.Remove("seq_dense.bias");
        WriteModel();
        Save("theirs.safetensors", library.Tensors);

        ToolResult result = Import("--layout", "grec");

        Assert.Equal(2, result.ExitCode);
        Assert.Contains("tensor \"sequence_transformer.item_embedding.weight\" differs from \"item_embedding.weight\"", result.Error, StringComparison.Ordinal);
        Assert.Contains("tensor \"task_embedding.1.weight\" [3, 8] has no place", result.Error, StringComparison.Ordinal);
        Assert.Contains("tensor \"seq_dense.bias\" [8] of parameter \"sequence.output.layers.1.bias\" is missing", result.Error, StringComparison.Ordinal);
    }

    private GrecSample Sample(int length)
    {
        return new(Ids(GrecLibrary.Pages), Ids(GrecLibrary.Items), Ids(GrecLibrary.Metas), length, _random.Next(GrecLibrary.Items), _random.Next(GrecLibrary.Metas),
            [_random.Next(GrecLibrary.Deep), _random.Next(GrecLibrary.Deep)], Doubles(GrecLibrary.Wide), Doubles(GrecLibrary.TextWidth));

        int[] Ids(int rows) => [.. Enumerable.Range(0, GrecLibrary.Positions).Select(p => p < length ? _random.Next(rows) : 0)];

        double[] Doubles(int count) => [.. Numbers(count).Select(v => (double)v)];
    }

    // One-sided differences that disagree have a kink between them, of an activation, a maximum or a route; such a number is passed over.
    private void CheckGradients(Dictionary<string, float[]> answer, GrecLibrary library, Func<double> objective)
    {
        const double step = 1e-6;
        double here = objective();
        int compared = 0, passed = 0;
        foreach ((string name, (long[] shape, float[] values)) in library.Tensors)
        {
            if (Ignored(name))
                continue;
            foreach (int index in new[] { 0, values.Length - 1, _random.Next(values.Length) })
            {
                library.Changed = (name, index, values[index] + step);
                double above = objective();
                library.Changed = (name, index, values[index] - step);
                double below = objective();
                library.Changed = null;
                if (Math.Abs(above + below - (2 * here)) > 1e-4 * step)
                {
                    passed++;
                    continue;
                }

                compared++;
                Near((above - below) / (2 * step), Gradient(answer, library, name, shape, index), name);
            }
        }

        Assert.True(passed < compared / 10, $"{passed} of {passed + compared} differences have a kink");
    }

    // Second names, buffers, and the encoder of texts, which the model does not have. The numbers' normalisation is a part of the layer behind it.
    private static bool Ignored(string name) =>
        name.StartsWith("nlp_encoder", StringComparison.Ordinal) || name.Contains("batch_norm", StringComparison.Ordinal) || name.Contains("inv_freq", StringComparison.Ordinal)
        || name.EndsWith("norm.beta", StringComparison.Ordinal) || (name.StartsWith("sequence_transformer.", StringComparison.Ordinal) && name.Contains("embedding", StringComparison.Ordinal));

    /// <summary>The gradient of a number of a released tensor, from those of the parameters that it became.</summary>
    private static double Gradient(Dictionary<string, float[]> answer, GrecLibrary library, string name, long[] shape, int index)
    {
        string[] parts = name.Split('.');
        string last = parts[^1];
        if (name == "context_head.wide_dense.weight")
        {
            int input = index % GrecLibrary.Wide;
            double scale = Norm("weight") / Math.Sqrt(Norm("running_var") + 1e-5);
            return (Ours("context.wide.weight", index) * scale) + (Ours("context.wide.bias", index / GrecLibrary.Wide) * (Norm("bias") - (Norm("running_mean") * scale)));

            double Norm(string of) => library.Tensors[$"context_head.wide_batch_norm.{of}"].Values[input];
        }

        return parts switch
        {
            ["page_embedding", _] => Ours("embeddings.pages.weight", index),
            ["item_embedding", _] => Ours("embeddings.items.weight", index),
            ["item_meta_embedding", _] => Ours("embeddings.metas.weight", index),
            ["item_pre_embedding", _] => Ours("embeddings.pres.weight", index),
            ["task_embedding", ..] => Ours("task_tokens.weight", index),
            [_, "deep_embedding", var i, _] => Ours($"embeddings.{(i == "0" ? "city" : "plan")}.weight", index),
            [_, "deep_dense", _] => Ours($"context.deep.{last}", index),
            [_, "wide_dense", _] => Ours($"context.wide.{last}", index),
            [_, "ptransformer", var i, _, .. var rest] => Ours($"sequence.blocks.{i}.{Block(rest)}", index),
            ["sequence_transformer", "seq_dense", _] => Ours($"sequence.output.layers.0.{last}", index),
            ["seq_dense", _] => Ours($"sequence.output.layers.1.{last}", index),
            ["nlp_dense", _] => Ours($"text.{last}", index),
            ["att_pooling", .. var rest] => Ours($"fusion.{Block(rest)}", index),
            ["moe", "layer_norm", _] => Ours("moe.norm.weight", index),
            ["moe", "mlp", "router", ..] => Ours($"gate.{last}", index),
            ["moe", "mlp", "experts", var expert, var layer, _] => Ours($"experts.layers.{(layer == "wi" ? 0 : 1)}.weight", index + (int)(int.Parse(expert.AsSpan("expert_".Length)) * shape[0] * shape[1])),
            ["tasks_dense1", _] => Ours("towers.task0.layers.0." + last, index) + Ours("towers.task1.layers.0." + last, index),
            ["tasks_dense2", _] => Ours("towers.task0.layers.1.weight", index) + Ours("towers.task1.layers.1.weight", index),
            _ => throw new ArgumentException(name),
        };

        double Ours(string parameter, int at) => answer[$"gradients.{parameter}"][at];

        static string Block(string[] rest) => rest[0] switch
        {
            "norm" => "norm.weight",
            "fused_attn_ff_proj" => "input.weight",
            "attn_out" => "attention.weight",
            _ => "gated.weight",
        };
    }

    private static void Near(double expected, double actual, string what) =>
        Assert.True(Math.Abs(expected - actual) <= 1e-5 * (1 + Math.Abs(expected)), $"{what}: {actual}; expected {expected}");

    private ToolResult Import(params string[] more) =>
        ToolProcess.RunHere(["import", In("model.json"), "--from", In("theirs.safetensors"), "--to", In("ours.safetensors"), .. more]);

    private Dictionary<string, float[]> Probe(string device, GrecSample[] samples, float[][] gradients)
    {
        SafetensorsWriter inputs = new();
        Sequence("pages", sample => sample.Pages);
        Sequence("items_seen", sample => sample.Items);
        Sequence("metas_seen", sample => sample.Metas);
        Sequence("pres_seen", sample => sample.Items);
        Ids("items", sample => sample.Current);
        Ids("metas", sample => sample.CurrentMeta);
        Ids("pres", sample => sample.Current);
        Ids("city", sample => sample.Deep[0]);
        Ids("plan", sample => sample.Deep[1]);
        for (int i = 0; i < GrecLibrary.Wide; i++)
            inputs.Add<float>($"number{i}", TensorDataType.F32, [Rows], [.. samples.Select(sample => (float)sample.Wide[i])]);
        inputs.Add<float>("query", TensorDataType.F32, [Rows, GrecLibrary.TextWidth], [.. samples.SelectMany(sample => sample.Text.Select(v => (float)v))]);
        inputs.Save(In("inputs.safetensors"));
        Save("gradients.safetensors", gradients.Select((values, task) => (values, task)).ToDictionary(g => $"task{g.task}", g => (new long[] { Rows, GrecLibrary.Items }, g.values)));
        ToolResult result = ToolProcess.RunHere(
            "probe", In("model.json"), "--parameters", In("ours.safetensors"), "--inputs", In("inputs.safetensors"), "--gradients", In("gradients.safetensors"),
            "--to", In("answer.safetensors"), "--device", device);
        Assert.True(result.ExitCode == 0, result.Error);
        using SafetensorsReader reader = SafetensorsReader.Open(In("answer.safetensors"));
        return reader.Header.Tensors.ToDictionary(t => t.Name, t =>
        {
            float[] values = new float[t.Count];
            reader.ReadSingles(t.Name, values);
            return values;
        });

        void Ids(string name, Func<GrecSample, int> id) => inputs.Add<int>(name, TensorDataType.I32, [Rows], [.. samples.Select(id)]);

        // What stands behind the valid length is not passed: it is row 0.
        void Sequence(string name, Func<GrecSample, int[]> ids)
        {
            int[] all = [.. samples.SelectMany(sample => ids(sample).Take(sample.ValidLength))];
            int[] offsets = [.. Enumerable.Range(0, Rows + 1).Select(row => samples.Take(row).Sum(sample => sample.ValidLength))];
            inputs.Add<int>(name, TensorDataType.I32, [all.Length], all);
            inputs.Add<int>($"{name}.offsets", TensorDataType.I32, [Rows + 1], offsets);
        }
    }

    private void WriteModel(Func<string, string>? change = null)
    {
        const string text = """
            {
              "name": "ported",
              "features": [
                { "name": "pages", "type": "sequence", "dimension": 8, "max_length": 4 },
                { "name": "items_seen", "type": "sequence", "dimension": 4, "max_length": 4, "table": "items" },
                { "name": "metas_seen", "type": "sequence", "dimension": 2, "max_length": 4, "table": "metas" },
                { "name": "pres_seen", "type": "sequence", "dimension": 2, "max_length": 4, "table": "pres" },
                { "name": "items", "type": "categorical", "dimension": 4 },
                { "name": "metas", "type": "categorical", "dimension": 2 },
                { "name": "pres", "type": "categorical", "dimension": 2 },
                { "name": "city", "type": "categorical", "dimension": 3 },
                { "name": "plan", "type": "categorical", "dimension": 3 },
                { "name": "number0", "type": "dense", "transform": "none" },
                { "name": "query", "type": "vector", "size": 5 },
                { "name": "number1", "type": "dense", "transform": "none" },
                { "name": "number2", "type": "dense", "transform": "none" },
              ],
              "tasks": [{ "name": "task0", "type": "multiclass" }, { "name": "task1", "type": "multiclass" }],
              "architecture": {
                "type": "grec",
                "grec": {
                  "width": 8, "blocks": 2, "heads": 2, "head_width": 8, "routing": "task_sentence", "pooling": "mean_hard_max", "padding": "first_row", "token_capacity": 2, "overflow": "pass",
                  "current": ["items", "metas", "pres"], "current_layer": false, "text": ["query"], "sequence": [["pages"], ["items_seen", "metas_seen", "pres_seen"]]
                },
                "experts": { "count": 3, "layers": [8] },
                "gate": { "top_k": 1 },
                "tower": [20],
                "activation": "leaky_relu",
                "activation_slope": 0.2
              }
            }
            """;
        _folder.Write("model.json", change?.Invoke(text) ?? text);
    }

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
