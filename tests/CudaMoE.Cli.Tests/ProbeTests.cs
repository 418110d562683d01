using CudaMoE.Checkpoints;
using CudaMoE.Tests.Support;

namespace CudaMoE.Cli.Tests;

/// <summary>The gradients that <c>probe</c> writes, against central differences of the outputs that it writes.</summary>
public sealed class ProbeTests : IDisposable
{
    private const int Rows = 5;

    private static readonly long[] s_cities = [0, 3, 3, 1, 2];

    private readonly TemporaryFolder _folder = new();
    private readonly Random _random = new(20260102);
    private readonly Dictionary<string, (long[] Shape, float[] Values)> _parameters = [];
    private readonly Dictionary<string, (long[] Shape, float[] Values)> _numbers = [];
    private readonly Dictionary<string, (long[] Shape, float[] Values)> _gradients = [];
    private readonly Dictionary<string, (int[] Ids, int[] Offsets)> _lists = new() { ["tags"] = ([1, 2, 2, 4, 0, 1], [0, 2, 2, 3, 5, 6]) };

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
        CheckTableIsSumOfInputs("city", answer);
        Assert.Equal(_parameters.Count + 4 + 2, answer.Count);
        CheckSameOnEveryDevice(answer);
    }

    /// <summary>Outputs of a stem model depend on all tables and experts; the gradient of a task's outputs leaves out those of the other tasks.</summary>
    [Theory]
    [InlineData("kind", 2)]
    [InlineData("clicked", 0)]
    public void Gradients_OfATaskOfStem_AreItsDerivativesAndZeroOnTheOther(string other, int otherExpert)
    {
        const string architecture = "\"type\": \"stem\", \"experts\": { \"per_task\": 2, \"shared\": 1, \"layers\": [5, 4] }, \"tower\": [3]";
        WriteModel(architecture);
        Draw(architecture);
        Array.Clear(_gradients[other].Values);
        // Without numbers in the other task's experts, numbers reach the outputs only where gradients come back.
        (long[] shape, float[] weights) = _parameters["experts.layers.0.weight"];
        for (int row = otherExpert * (int)shape[1]; row < (otherExpert + 2) * shape[1]; row++)
            weights.AsSpan((row * (int)shape[2]) + 5, 3).Clear();

        Dictionary<string, float[]> answer = Probe();

        foreach ((string name, (long[] Shape, float[] Values) parameter) in _parameters)
        {
            float[] gradient = answer[$"gradients.{name}"];
            if (name.StartsWith($"embeddings.{other}.", StringComparison.Ordinal))
            {
                Assert.All(gradient, value => Assert.Equal(0, value));
            }
            else if (name.StartsWith("experts.", StringComparison.Ordinal))
            {
                int expert = gradient.Length / (int)parameter.Shape[0];
                Assert.All(gradient[(otherExpert * expert)..((otherExpert + 2) * expert)], value => Assert.Equal(0, value));
                int own = (2 - otherExpert) * expert;
                CheckDerivatives($"gradients.{name}", parameter.Values, answer, own, own + (2 * expert));
                CheckDerivatives($"gradients.{name}", parameter.Values, answer, 4 * expert, 5 * expert);
            }
            else
            {
                CheckDerivatives($"gradients.{name}", parameter.Values, answer);
            }
        }

        foreach (string name in new[] { "age", "vector" })
            CheckDerivatives($"gradients.inputs.{name}", _numbers[name].Values, answer);
        foreach (string unit in new[] { "clicked", "kind", "shared" })
            CheckTableIsSumOfInputs($"{unit}.city", answer);
        Assert.Equal(_parameters.Count + (3 * 2) + 2 + 2, answer.Count);
        CheckSameOnEveryDevice(answer);
    }

    [Fact]
    public void GradientsOfASequence_AreThoseOfItsPositions()
    {
        const string architecture = "\"type\": \"shared_bottom\", \"bottom\": [6]";
        WriteModel(architecture, """{ "name": "path", "type": "sequence", "dimension": 2, "max_length": 3 },""");
        _lists["path"] = ([4, 1, 2, 3, 3, 0], [0, 0, 1, 4, 6, 6]);
        Draw(architecture);

        Dictionary<string, float[]> answer = Probe();

        float[] table = new float[_parameters["embeddings.path.weight"].Values.Length], inputs = answer["gradients.inputs.path"];
        Assert.Equal(Rows * 3 * 2, inputs.Length);
        (int[] ids, int[] offsets) = _lists["path"];
        for (int row = 0; row < Rows; row++)
        {
            for (int i = offsets[row]; i < offsets[row + 1]; i++)
            {
                for (int j = 0; j < 2; j++)
                    table[(ids[i] * 2) + j] += inputs[(((row * 3) + i - offsets[row]) * 2) + j];
            }
        }

        AssertClose(table, answer["gradients.embeddings.path.weight"]);
        CheckTableIsSumOfInputs("city", answer);
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

    private static void AssertClose(float[] expected, float[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        foreach ((float e, float a) in expected.Zip(actual))
            Assert.Equal(e, a, 1e-5 * (1 + Math.Abs(e)));
    }

    private void CheckSameOnEveryDevice(Dictionary<string, float[]> answer)
    {
        foreach ((string name, float[] values) in TestDevices.Names.Skip(1).SelectMany(Probe))
            AssertClose(answer[name], values);
    }

    // A row of the table of cities is looked up by the samples of that city.
    private static void CheckTableIsSumOfInputs(string feature, Dictionary<string, float[]> answer)
    {
        float[] actual = answer[$"gradients.embeddings.{feature}.weight"], inputs = answer[$"gradients.inputs.{feature}"];
        float[] expected = new float[actual.Length];
        for (int i = 0; i < inputs.Length; i++)
            expected[(s_cities[i / 3] * 3) + (i % 3)] += inputs[i];
        AssertClose(expected, actual);
    }

    private void CheckDerivatives(string name, float[] values, Dictionary<string, float[]> answer) => CheckDerivatives(name, values, answer, 0, values.Length);

    private void CheckDerivatives(string name, float[] values, Dictionary<string, float[]> answer, int first, int end)
    {
        const float step = 1.0f / 64;
        // Some elements of each tensor, the first and the last among them.
        foreach (int i in new[] { first, end - 1, _random.Next(first, end) }.Distinct())
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

    private Dictionary<string, float[]> Probe() => Probe(TestDevices.Default);

    private Dictionary<string, float[]> Probe(string device)
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

    private ToolResult Run() => Run(TestDevices.Default);

    private ToolResult Run(string device)
    {
        Save("parameters.safetensors", _parameters);
        Save("gradients.safetensors", _gradients);
        SafetensorsWriter inputs = new();
        inputs.Add("city", TensorDataType.I64, [Rows], s_cities);
        foreach ((string name, (int[] ids, int[] offsets)) in _lists)
        {
            inputs.Add(name, TensorDataType.I32, [ids.Length], ids);
            inputs.Add($"{name}.offsets", TensorDataType.I32, [Rows + 1], offsets);
        }

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

    private void WriteModel(string architecture, string features = "") => _folder.Write(
        "model.json",
        $$"""
        {
          "name": "probed",
          "features": [
            { "name": "city", "type": "categorical", "dimension": 3 },
            { "name": "age", "type": "dense" },
            {{features}}
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
