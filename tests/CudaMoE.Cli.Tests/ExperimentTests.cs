using System.Globalization;
using System.IO.Compression;
using System.Text.Json;
using CudaMoE.Tests.Support;
using CudaMoE.Training;

namespace CudaMoE.Cli.Tests;

/// <summary>An experiment from its file to its reports, broken off and gone on with, on a slice of the census data.</summary>
public sealed class ExperimentTests : IDisposable
{
    private static readonly string[] Cells = ["single--equal--1", "shared--equal--1", "shared--pc--1", "single--equal--2", "shared--equal--2", "shared--pc--2"];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Experiment_OnASlice_RunsKeepsAndGoesOn()
    {
        WriteExperiment();
        Assert.Equal(string.Concat(Cells.Select(cell => cell + "\n")), Run(0, "--list").Output.ReplaceLineEndings("\n"));
        using (JsonDocument listed = JsonDocument.Parse(Run(0, "--list", "--output", "json").Output))
            Assert.Equal(Cells, listed.RootElement.GetProperty("cells").EnumerateArray().Select(cell => cell.GetString()!));
        Assert.False(Directory.Exists(Path.Combine(_folder.Path, "experiments")));

        // Cancelled before the third cell, the first two stand and there is a report of them.
        using (CancellationTokenSource source = new())
        using (StringWriter output = new())
        using (CancellingWriter error = new(source, "2/6 "))
        {
            string[] arguments = ["experiment", Path.Combine(_folder.Path, "experiment.json"), "--to", Path.Combine(_folder.Path, "experiments"), "--device", TestDevices.Default];
            Assert.Equal(ExitCodes.Cancelled, CliApplication.Run(arguments, output, error, source.Token));
            Assert.Contains("report ", output.ToString(), StringComparison.Ordinal);
        }

        // A cell that was broken off goes on from its checkpoint.
        string third = CellFolder(Cells[2]);
        using (CancellationTokenSource source = new())
            Trainer.Train(CellModel(Cells[1], "pcgrad"), _folder.Path, new() { Device = TestDevices.Default, RunsFolder = Path.Combine(third, "runs") }, new StopAt(3, source), source.Token);
        File.WriteAllText(Path.Combine(third, "model.json"), Description.DescriptionJson.Write(CellModel(Cells[1], "pcgrad")));
        DateTime kept = File.GetLastWriteTimeUtc(Path.Combine(CellFolder(Cells[0]), "cell.json"));

        // What has nothing to do with the checkpoint costs nothing of what was trained.
        Assert.Equal(ExitCodes.Environment, ToolProcess.RunHere("experiment", Path.Combine(_folder.Path, "experiment.json"), "--to", Path.Combine(_folder.Path, "experiments"), "--device", "cuda:99").ExitCode);
        ToolResult whole = Run(0, "--output", "json");
        Assert.Contains("1/6 single--equal--1: kept", whole.Error, StringComparison.Ordinal);
        Assert.Contains("3/6 shared--pc--1: completed", whole.Error, StringComparison.Ordinal);
        Assert.Equal(kept, File.GetLastWriteTimeUtc(Path.Combine(CellFolder(Cells[0]), "cell.json")));
        string run = Assert.Single(Directory.GetDirectories(Path.Combine(third, "runs")));
        Assert.Single(RunLogReader.Read(Path.Combine(run, "metrics.jsonl")).OfType<RunResumedEvent>());
        CheckSummary(whole.Output);

        // Once more, everything is kept, and the reports are the same.
        string html = File.ReadAllText(Path.Combine(_folder.Path, "experiments", "report.html"));
        ToolResult again = Run(0);
        Assert.DoesNotContain("completed", again.Error, StringComparison.Ordinal);
        Assert.Equal(html, File.ReadAllText(Path.Combine(_folder.Path, "experiments", "report.html")));
        Assert.DoesNotContain("http://", html, StringComparison.Ordinal);
        Assert.DoesNotContain("https://", html, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{ \"name\": \"x\" }", "models")]
    [InlineData("{ \"name\": \"x\", \"models\": [] }", "models is empty")]
    [InlineData("{ \"name\": \"x\", \"modells\": [] }", "modells")]
    [InlineData("{ \"name\": \"x\", \"models\": [{ \"name\": \"a/b\", \"file\": \"m.json\" }] }", "\"a/b\" is no name")]
    [InlineData("{ \"name\": \"x\", \"models\": [{ \"name\": \"a\", \"file\": \"m.json\" }, { \"name\": \"a\", \"file\": \"m.json\" }] }", "2 models of the name a")]
    [InlineData("{ \"name\": \"x\", \"models\": [{ \"name\": \"a\", \"file\": \"m.json\" }], \"baseline\": \"b\" }", "no model of that name")]
    [InlineData("{ \"name\": \"x\", \"models\": [{ \"name\": \"a\", \"file\": \"m.json\" }], \"seeds\": [1, 1] }", "a seed is in the list twice")]
    [InlineData("{ \"name\": \"x\", \"models\": [{ \"name\": \"a\", \"file\": \"m.json\" }], \"balancers\": [{ }] }", "has no type")]
    [InlineData("{ \"name\": \"x\", \"models\": [{ \"name\": \"a\", \"file\": \"m.json\" }] }", "there is no model file")]
    public void Experiment_WrongFile_IsAUsageError(string text, string expected)
    {
        string path = _folder.Write("experiment.json", text);
        ToolResult result = ToolProcess.RunHere("experiment", path, "--to", Path.Combine(_folder.Path, "experiments"));
        Assert.Equal(ExitCodes.Usage, result.ExitCode);
        Assert.Contains(expected, result.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(Path.Combine(_folder.Path, "experiments")));
    }

    private void CheckSummary(string output)
    {
        using JsonDocument document = JsonDocument.Parse(output);
        JsonElement[] rows = [.. document.RootElement.GetProperty("summary").GetProperty("rows").EnumerateArray()];
        Assert.Equal(["single", "shared", "shared"], rows.Select(row => row.GetProperty("model").GetString()));
        Assert.Equal(["equal", "equal", "pc"], rows.Select(row => row.GetProperty("balancer").GetString()));
        double[][] values = [Values("single--equal"), Values("shared--equal"), Values("shared--pc")];
        for (int r = 0; r < rows.Length; r++)
        {
            Assert.Equal(2, rows[r].GetProperty("runs").GetInt32());
            Assert.True(rows[r].GetProperty("samples_per_second").GetDouble() > 0);
            Assert.True(rows[r].GetProperty("parameters").GetInt64() > 100);
            JsonElement first = rows[r].GetProperty("tasks")[0];
            Assert.Equal((values[r][0] + values[r][1]) / 2, first.GetProperty("mean").GetDouble(), 12);
            Assert.Equal(Math.Abs(values[r][0] - values[r][1]) / Math.Sqrt(2), first.GetProperty("deviation").GetDouble(), 12);
        }

        double[] means = [.. rows.Select(row => row.GetProperty("tasks")[0].GetProperty("mean").GetDouble())];
        double[] others = [.. rows.Select(row => row.GetProperty("tasks")[1].GetProperty("mean").GetDouble())];
        Assert.False(rows[0].TryGetProperty("delta_p", out _));
        Assert.Equal(50 * (((means[2] - means[0]) / means[0]) + ((others[2] - others[0]) / others[0])), rows[2].GetProperty("delta_p").GetDouble(), 9);
        // 12 steps a run, every second of which is looked at with equal weights, all with pcgrad; none in the baseline.
        Assert.Equal([0, 12, 24], rows.Select(row => row.GetProperty("pairs").EnumerateArray().Sum(pair => pair.GetProperty("steps").GetInt64())));
        string markdown = File.ReadAllText(document.RootElement.GetProperty("markdown").GetString()!);
        Assert.Contains("| shared | pc | 2 |", markdown, StringComparison.Ordinal);
        Assert.Contains("delta_p %", markdown, StringComparison.Ordinal);
    }

    /// <summary>The first task's AUC of a row's two seeds, from the cells.</summary>
    private double[] Values(string row) =>
    [
        .. new[] { 1, 2 }.Select(seed =>
        {
            using JsonDocument cell = JsonDocument.Parse(File.ReadAllText(Path.Combine(CellFolder($"{row}--{seed}"), "cell.json")));
            return cell.RootElement.GetProperty("test")[0].GetProperty("metrics").EnumerateArray().Single(m => m.GetProperty("name").GetString() == "auc").GetProperty("value").GetDouble();
        }),
    ];

    private string CellFolder(string cell) => Path.Combine(_folder.Path, "experiments", "cells", cell);

    private Description.ModelDescription CellModel(string cell, string balancer)
    {
        Description.ModelDescription model = Description.DescriptionJson.Load(Path.Combine(CellFolder(cell), "model.json"));
        return model with { Training = model.Training with { Balancer = new() { Type = Enum.Parse<Description.BalancerType>(balancer, ignoreCase: true) } } };
    }

    private ToolResult Run(int expected, params string[] options)
    {
        ToolResult result = ToolProcess.RunHere(["experiment", Path.Combine(_folder.Path, "experiment.json"), "--to", Path.Combine(_folder.Path, "experiments"), "--device", TestDevices.Default, .. options]);
        Assert.True(expected == result.ExitCode, $"{result.ExitCode}\n{result.Error}");
        return result;
    }

    private void WriteExperiment()
    {
        Slice("census-income.data.gz", "train.csv", 3000);
        Slice("census-income.test.gz", "test.csv", 2000);
        string model = JsonSerializer.Serialize(Path.Combine(Repository.Root, "models", "census-mmoe-two-tasks.json"));
        _folder.Write("experiment.json", $$"""
            {
              // The single-task model is the baseline and runs with its own balancer.
              "name": "census slice",
              "models": [
                { "name": "single", "file": {{model}}, "set": { "architecture": { "type": "single_task", "bottom": [8] }, "training.balancer": { "type": "equal" } } },
                { "name": "shared", "file": {{model}}, "set": { "architecture": { "type": "shared_bottom", "bottom": [8] } } },
              ],
              "balancers": [{ "type": "equal", "observe_every": 2, "place": "shared_parameters" }, { "name": "pc", "type": "pcgrad" }],
              "seeds": [1, 2],
              "set": {
                "data.train": [{{JsonSerializer.Serialize(Path.Combine(_folder.Path, "train.csv"))}}],
                "data.test": [{{JsonSerializer.Serialize(Path.Combine(_folder.Path, "test.csv"))}}],
                "data.cache": {{JsonSerializer.Serialize(Path.Combine(_folder.Path, "cache"))}},
                "training.batch_size": 256,
                "training.epochs": 1,
              },
              "baseline": "single",
            }
            """);
    }

    private void Slice(string source, string name, int rows)
    {
        using StreamReader reader = new(new GZipStream(File.OpenRead(Path.Combine(Repository.Root, "data", "census-income-kdd", source)), CompressionMode.Decompress));
        using StreamWriter writer = new(Path.Combine(_folder.Path, name));
        for (int row = 0; row < rows; row++)
            writer.WriteLine(reader.ReadLine());
    }

    /// <summary>Cancels when a line is written.</summary>
    private sealed class CancellingWriter(CancellationTokenSource cancellation, string start) : StringWriter(CultureInfo.InvariantCulture)
    {
        public override void WriteLine(string? value)
        {
            base.WriteLine(value);
            if (value is not null && value.StartsWith(start, StringComparison.Ordinal))
                cancellation.Cancel();
        }
    }

    private sealed class StopAt(long step, CancellationTokenSource source) : ITrainingObserver
    {
        public void OnProgress(in TrainingProgress progress)
        {
            if (progress.Step == step)
                source.Cancel();
        }
    }
}
