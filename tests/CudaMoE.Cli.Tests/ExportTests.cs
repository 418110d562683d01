using System.Globalization;
using System.Text.Json;
using CudaMoE.Export;
using CudaMoE.Tests.Export;
using CudaMoE.Tests.Support;

namespace CudaMoE.Cli.Tests;

/// <summary>From a CSV to an exported model by the tool, whose outputs are those of <c>predict</c>.</summary>
public sealed class ExportTests : IDisposable
{
    private static readonly string[] Header = ["id", "size", "city", "big", "amount", "kind"];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Export_OfARun_PredictsWhatPredictDoes(bool texts)
    {
        string run = Train();
        string[][] rows = Rows(60, seed: 2);
        _folder.Write("new.csv", Text(rows));
        Run(0, "predict", run, "new.csv", "--to", "predicted.csv");
        string[] more = texts ? ["--texts", "--external-data"] : [];

        ToolResult result = Run(0, ["export", run, "--format", "onnx", "--to", "m.onnx", "--schema", "m.json", "--gates", "--output", "json", .. more]);

        using JsonDocument answer = JsonDocument.Parse(result.Output);
        JsonElement root = answer.RootElement;
        Assert.Equal(Path.Combine(_folder.Path, "m.onnx"), root.GetProperty("file").GetString());
        Assert.Equal(texts, root.TryGetProperty("data_file", out _));
        Assert.Equal(
            ["big.logit", "big.probability", "amount.value", "kind.logits", "kind.probabilities", "gates.0"],
            root.GetProperty("outputs").EnumerateArray().Select(o => o.GetProperty("name").GetString()));
        OnnxModel model = new(Path.Combine(_folder.Path, "m.onnx"));
        string schemaText = File.ReadAllText(Path.Combine(_folder.Path, "m.json"));
        Assert.Equal(schemaText, model.Metadata[ExportSchema.MetadataKey]);
        ExportSchema schema = JsonSerializer.Deserialize(schemaText, ExportJson.Default.ExportSchema)!;
        Assert.Equal(texts ? "string" : "int64", schema.Inputs.Single(i => i.Name == "city").Type);
        CheckAgainstPredictions(OnnxInterpreter.Run(model, ExportClient.Inputs(schema, rows, extraPlaces: 0)));
    }

    [Fact]
    public void Export_AnExistingFile_IsReplacedOnlyByForce()
    {
        string run = Train();
        _folder.Write("m.onnx", "precious");
        string path = Path.Combine(_folder.Path, "m.onnx");

        ToolResult refused = Run(2, "export", run, "--to", "m.onnx");

        Assert.Contains("exists", refused.Error, StringComparison.Ordinal);
        Assert.Contains("--force", refused.Error, StringComparison.Ordinal);
        Assert.Equal("precious", File.ReadAllText(path));
        _folder.Write("m.json", "precious");
        Assert.Contains("m.json exists", Run(2, "export", run, "--to", "n.onnx", "--schema", "m.json").Error, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(_folder.Path, "n.onnx")));

        ToolResult replaced = Run(0, "export", run, "--to", "m.onnx", "--schema", "m.json", "--force");

        Assert.StartsWith($"{path}: ", replaced.Output, StringComparison.Ordinal);
        Assert.Contains("outputs big.logit, big.probability, amount.value, kind.logits, kind.probabilities", replaced.Output, StringComparison.Ordinal);
        Assert.Equal("export-model", new OnnxModel(path).GraphName);
    }

    [Theory]
    [InlineData("--to no/such/m.onnx", "there is no folder")]
    [InlineData("--to m.onnx --schema m.onnx", "name the same file")]
    [InlineData("--format pmml", "pmml")]
    public void Export_WrongUse_IsExplained(string options, string expected)
    {
        ToolResult result = Run(2, ["export", "runs/none", .. options.Split(' ')]);

        Assert.Contains(expected, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Export_NoRun_IsExplained() => Assert.Contains("there is no folder", Run(2, "export", "runs/none").Error, StringComparison.Ordinal);

    [Fact]
    public void Export_WhatTheModelDoesNotHave_IsAUsageError()
    {
        string run = Train("--set", "architecture={\"type\":\"shared_bottom\",\"bottom\":[8]}");

        ToolResult result = Run(2, "export", run, "--gates", "--output", "json");

        JsonElement error = JsonDocument.Parse(result.Output).RootElement.GetProperty("error");
        Assert.Equal("export", error.GetProperty("kind").GetString());
        Assert.Contains("no gates", error.GetProperty("message").GetString(), StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(_folder.Path, "model.onnx")));
    }

    private string Train(params string[] options)
    {
        _folder.Write("export-model.csv", Text(Rows(1500, seed: 1)));
        Run(0, "init", "export-model.csv", "--task", "big", "--task", "amount", "--task", "kind");
        using JsonDocument run = JsonDocument.Parse(
            Run(0, ["train", "model.json", "--epochs", "2", "--batch-size", "64", "--device", TestDevices.Default, "--output", "json", .. options]).Output);
        return run.RootElement.GetProperty("run_folder").GetString()!;
    }

    private void CheckAgainstPredictions(IReadOnlyDictionary<string, OnnxArray> values)
    {
        string[][] predicted = [.. File.ReadAllLines(Path.Combine(_folder.Path, "predicted.csv")).Select(line => line.Split(','))];
        Assert.Equal(["big", "amount", "kind", "kind=blue", "kind=green", "kind=red"], predicted[0]);
        for (int row = 1; row < predicted.Length; row++)
        {
            Near(predicted[row][0], values["big.probability"].Values[row - 1]);
            Near(predicted[row][1], values["amount.value"].Values[row - 1]);
            for (int c = 0; c < 3; c++)
                Near(predicted[row][3 + c], values["kind.probabilities"].Values[((row - 1) * 3) + c]);
        }

        static void Near(string expected, double actual)
        {
            double number = double.Parse(expected, CultureInfo.InvariantCulture);
            Assert.Equal(number, actual, 1e-5 * Math.Max(1, Math.Abs(number)));
        }
    }

    private ToolResult Run(int expected, params string[] arguments)
    {
        ToolResult result = ToolProcess.Run(_folder.Path, null, arguments);
        Assert.True(expected == result.ExitCode, $"{string.Join(' ', arguments)} gave {result.ExitCode}\n{result.Error}");
        return result;
    }

    private static string Text(string[][] rows) => string.Concat(rows.Select(row => string.Join(',', row) + "\n"));

    /// <summary>A number, a city that may be missing or new, and labels that depend on both.</summary>
    private static string[][] Rows(int count, int seed)
    {
        Random random = new(seed);
        List<string[]> rows = [Header];
        for (int i = 0; i < count; i++)
        {
            double size = random.NextDouble() * 4;
            int city = random.Next(seed == 1 ? 12 : 15);
            rows.Add(
            [
                $"{i % 500}",
                random.Next(20) == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $"{size:0.####}"),
                random.Next(20) == 0 ? "" : $"city {city}",
                size > 2 ? "1" : "0",
                string.Create(CultureInfo.InvariantCulture, $"{100 + (10 * size):0.##}"),
                (city % 3) switch { 0 => "red", 1 => "green", _ => "blue" },
            ]);
        }

        return [.. rows];
    }
}
