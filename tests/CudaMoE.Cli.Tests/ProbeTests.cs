using CudaMoE.Checkpoints;

namespace CudaMoE.Cli.Tests;

/// <summary>The gradients that <c>probe</c> writes, against central differences of the outputs that it writes.</summary>
public sealed class ProbeTests : IDisposable
{
    private const int Rows = 5;

    private readonly TemporaryFolder _folder = new();
    private readonly Random _random = new(20260102);
    private readonly Dictionary<string, (long[] Shape, float[] Values)> _parameters = [];
    private readonly Dictionary<string, (long[] Shape, float[] Values)> _numbers = [];
    private readonly Dictionary<string, (long[] Shape, float[] Values)> _gradients = [];

    public static TheoryData<string> Architectures =>
    [
        "\"type\": \"shared_bottom\", \"bottom\": [6], \"tower\": [3]",
        "\"type\": \"single_task\", \"bottom\": [4]",
        "\"type\": \"mmoe\", \"projection\": 6, \"experts\": { \"count\": 3, \"layers\": [5, 4] }, \"tower\": [3]",
        "\"type\": \"mmoe\", \"layer_norm\": true, \"experts\": { \"count\": 4, \"layers\": [4] }, \"gate\": { \"sharing\": \"shared\" }",
        "\"type\": \"adatt\", \"experts\": { \"per_task\": 2, \"shared\": 1, \"levels\": [[5], [4]] }, \"tower\": [3]",
        "\"type\": \"ml_mmoe\", \"experts\": { \"count\": 3, \"levels\": [[5], [4]] }",
        "\"type\": \"cgc\", \"projection\": 6, \"experts\": { \"shared\": 2, \"layers\": [5, 4] }",
        "\"type\": \"ple\", \"experts\": { \"per_task\": 2, \"shared\": 1, \"levels\": [[5], [4]] }",
        "\"type\": \"grec\", \"grec\": { \"width\": 4, \"text\": [\"tags\"], \"current\": [\"city\"], \"feed_forward\": 5 }, \"experts\": { \"count\": 2, \"layers\": [3] }, \"gate\": { \"top_k\": 2 }",
        "\"type\": \"cross_stitch\", \"experts\": { \"levels\": [[5], [4]] }",
    ];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Architectures))]
    public void Gradients_AreTheDerivativesOfTheOutputs(string architecture)
    {
        WriteModel(architecture);
        Draw(architecture);

        Dictionary<string, float[]> answer = Probe();

        Assert.Equal([Rows * 1, Rows * 3], new[] { answer["outputs.clicked"].Length, answer["outputs.kind"].Length });
        foreach ((string name, (long[] _, float[] values)) in _parameters)
            CheckDerivatives($"gradients.{name}", values, answer);
        foreach (string name in new[] { "age", "vector" })
            CheckDerivatives($"gradients.inputs.{name}", _numbers[name].Values, answer);
        Assert.Equal(Rows * 3, answer["gradients.inputs.city"].Length);
        Assert.Equal(_parameters.Count + 4 + 2, answer.Count);
        foreach ((string name, float[] values) in Probe("simt"))
        {
            foreach ((float expected, float actual) in answer[name].Zip(values))
                Assert.Equal(expected, actual, 1e-5 * (1 + Math.Abs(expected)));
        }
    }

    [Fact]
    public void ParameterOfAnotherShape_IsRefusedWithBothShapes()
    {
        WriteModel("\"type\": \"shared_bottom\", \"bottom\": [6]");
        Draw("\"type\": \"shared_bottom\", \"bottom\": [6]");
        _parameters["bottom.layers.0.bias"] = ([7], new float[7]);

        ToolResult result = Run();

        Assert.Equal(2, result.ExitCode);
        Assert.Contains("[7]", result.Error, StringComparison.Ordinal);
        Assert.Contains("[6]", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void UnknownParameter_IsRefused()
    {
        WriteModel("\"type\": \"shared_bottom\", \"bottom\": [6]");
        Draw("\"type\": \"shared_bottom\", \"bottom\": [6]");
        _parameters["not.there"] = ([1], [1]);

        Assert.Contains("\"not.there\" is not a parameter", Run().Error, StringComparison.Ordinal);
    }

    private void CheckDerivatives(string name, float[] values, Dictionary<string, float[]> answer)
    {
        const float step = 1.0f / 64;
        // Some elements of each tensor, the first and the last among them.
        foreach (int i in new[] { 0, values.Length - 1, _random.Next(values.Length) }.Distinct())
        {
            float kept = values[i];
            values[i] = kept + step;
            double above = Objective();
            values[i] = kept - step;
            double below = Objective();
            values[i] = kept;
            double expected = (above - below) / (2 * step);
            Assert.True(Math.Abs(expected - answer[name][i]) <= 2e-3 * (1 + Math.Abs(expected)), $"{name}[{i}] is {answer[name][i]}; differences give {expected}");
        }
    }

    // The function whose gradient on the outputs is what --gradients gives.
    private double Objective()
    {
        Dictionary<string, float[]> answer = Probe();
        return _gradients.Sum(g => g.Value.Values.Zip(answer[$"outputs.{g.Key}"], (a, b) => (double)a * b).Sum());
    }

    private Dictionary<string, float[]> Probe(string device = "cpu:threads=1")
    {
        ToolResult result = Run(device);
        Assert.True(result.ExitCode == 0, result.Error);
        using SafetensorsReader reader = SafetensorsReader.Open(In("answer.safetensors"));
        return reader.Header.Tensors.ToDictionary(t => t.Name, t =>
        {
            float[] values = new float[t.Count];
            reader.ReadSingles(t.Name, values);
            return values;
        });
    }

    private ToolResult Run(string device = "cpu:threads=1")
    {
        Save("parameters.safetensors", _parameters);
        Save("gradients.safetensors", _gradients);
        SafetensorsWriter inputs = new();
        inputs.Add("city", TensorDataType.I64, [Rows], new long[] { 0, 3, 3, 1, 2 });
        inputs.Add("tags", TensorDataType.I32, [6], new[] { 1, 2, 2, 4, 0, 1 });
        inputs.Add("tags.offsets", TensorDataType.I32, [Rows + 1], new[] { 0, 2, 2, 3, 5, 6 });
        foreach ((string name, (long[] shape, float[] values)) in _numbers)
            inputs.Add(name, TensorDataType.F32, shape, values);
        inputs.Save(In("inputs.safetensors"));
        return ToolProcess.RunHere(
            "probe", In("model.json"), "--parameters", In("parameters.safetensors"), "--inputs", In("inputs.safetensors"), "--gradients", In("gradients.safetensors"),
            "--to", In("answer.safetensors"), "--device", device);
    }

    private void Save(string name, Dictionary<string, (long[] Shape, float[] Values)> tensors)
    {
        SafetensorsWriter writer = new();
        foreach ((string tensor, (long[] shape, float[] values)) in tensors)
            writer.Add(tensor, TensorDataType.F32, shape, values);
        writer.Save(In(name));
    }

    private void WriteModel(string architecture) => _folder.Write(
        "model.json",
        $$"""
        {
          "name": "probed",
          "features": [
            { "name": "city", "type": "categorical", "dimension": 3 },
            { "name": "age", "type": "dense" },
            { "name": "tags", "type": "multi_hot", "dimension": 2 },
            { "name": "vector", "type": "vector", "size": 2 },
          ],
          "tasks": [{ "name": "clicked", "type": "binary" }, { "name": "kind", "type": "multiclass", "classes": ["a", "b", "c"] }],
          "architecture": { {{architecture}}, "activation": "tanh" },
        }
        """);

    // Shapes as 'inspect --parameters' says, so that what it documents is what probe takes.
    private void Draw(string architecture)
    {
        ToolResult inspected = ToolProcess.RunHere("inspect", In("model.json"), "--vocabulary", "5", "--output", "json");
        Assert.True(inspected.ExitCode == 0, architecture + inspected.Error);
        using System.Text.Json.JsonDocument document = System.Text.Json.JsonDocument.Parse(inspected.Output);
        foreach (System.Text.Json.JsonElement parameter in document.RootElement.GetProperty("parameters").EnumerateArray())
        {
            long[] shape = [.. parameter.GetProperty("shape").EnumerateArray().Select(e => e.GetInt64())];
            _parameters.Add(parameter.GetProperty("name").GetString()!, (shape, Numbers(shape.Aggregate(1L, (a, b) => a * b))));
        }

        _numbers["age"] = ([Rows], Numbers(Rows));
        _numbers["vector"] = ([Rows, 2], Numbers(Rows * 2));
        _gradients["clicked"] = ([Rows, 1], Numbers(Rows));
        _gradients["kind"] = ([Rows, 3], Numbers(Rows * 3));
    }

    private float[] Numbers(long count) => [.. Enumerable.Range(0, (int)count).Select(_ => (float)(_random.NextDouble() - 0.5))];

    private string In(string name) => Path.Combine(_folder.Path, name);
}
