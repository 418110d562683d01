using System.Globalization;
using System.Text;
using System.Text.Json;
using CudaMoE.Tests.Support;
using CudaMoE.Training;

namespace CudaMoE.Cli.Tests;

/// <summary>From a CSV to predictions with the tool alone, on data with a rule that is easy to learn.</summary>
public sealed class EndToEndTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Init_Train_Evaluate_Predict_Inspect_Report()
    {
        WriteData("train.csv", 4000, seed: 1);
        WriteData("test.csv", 1000, seed: 2);
        Run(0, "init", "train.csv", "--test", "test.csv", "--task", "big", "--task", "amount", "--task", "kind");

        ToolResult trained = Run(0, "train", "model.json", "--epochs", "4", "--batch-size", "64", "--device", TestDevices.Default, "--output", "json");

        using JsonDocument run = JsonDocument.Parse(trained.Output);
        string folder = run.RootElement.GetProperty("run_folder").GetString()!;
        Assert.Contains(run.RootElement.GetProperty("status").GetString(), new[] { "completed", "early_stopped" });
        double auc = Metric(run.RootElement.GetProperty("test"), "big", "auc");
        Assert.True(auc > 0.95, $"AUC {auc}");
        Assert.Contains("samples/s", trained.Error, StringComparison.Ordinal);
        string report = File.ReadAllText(Path.Combine(folder, "report.html"));
        Assert.DoesNotContain("The run has not been tested.", report, StringComparison.Ordinal);

        using JsonDocument evaluated = JsonDocument.Parse(Run(0, "evaluate", folder, "--output", "json").Output);
        Assert.Equal(auc, Metric(evaluated.RootElement.GetProperty("metrics"), "big", "auc"));
        using JsonDocument ofFile = JsonDocument.Parse(Run(0, "evaluate", folder, "--data", "test.csv", "--output", "json").Output);
        Assert.Equal(auc, Metric(ofFile.RootElement.GetProperty("metrics"), "big", "auc"));

        CheckPredictions(folder);

        ToolResult inspected = Run(0, "inspect", folder, "--parameters");
        Assert.Contains("experts.layers.0.weight", inspected.Output, StringComparison.Ordinal);
        Assert.Contains("weights.safetensors", inspected.Output, StringComparison.Ordinal);

        File.Delete(Path.Combine(folder, "report.html"));
        Run(0, "report", folder);
        Assert.Equal(report, File.ReadAllText(Path.Combine(folder, "report.html")));
    }

    [Fact]
    public void Predict_AGivenTask_WritesTheJointAndTheConditionalProbability()
    {
        Random random = new(1);
        IEnumerable<double> sizes = Enumerable.Range(0, 3000).Select(_ => random.NextDouble() * 4);
        _folder.Write("train.csv", "size,big,huge\n" + string.Concat(sizes.Select(s => string.Create(CultureInfo.InvariantCulture, $"{s:0.####},{(s > 2 ? 1 : 0)},{(s > 3 ? 1 : 0)}\n"))));
        Run(0, "init", "train.csv", "--task", "big", "--task", "huge");
        Run(0, "train", "model.json", "--epochs", "3", "--batch-size", "64", "--runs", "runs", "--set", "tasks[1].given=big", "--set", "training.balancer.type=equal");
        string run = Path.GetFileName(Assert.Single(Directory.GetDirectories(Path.Combine(_folder.Path, "runs"))));

        string[] lines = Run(0, "predict", Path.Combine("runs", run), "train.csv").Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);

        Assert.Equal("big,huge,huge|big", lines[0].TrimEnd());
        Assert.Equal(3001, lines.Length);
        foreach (string line in lines[1..])
        {
            double[] p = [.. line.Split(',').Select(field => double.Parse(field, CultureInfo.InvariantCulture))];
            Assert.Equal(p[1], p[0] * p[2], 1e-6);
        }
    }

    [Fact]
    public void Train_WithParameters_StartsFromThem_AndRefusesOthersBeforeThereIsARun()
    {
        WriteData("train.csv", 3000, seed: 1);
        WriteData("test.csv", 1000, seed: 2);
        Run(0, "init", "train.csv", "--test", "test.csv", "--task", "big");
        using JsonDocument first = JsonDocument.Parse(Run(0, "train", "model.json", "--epochs", "4", "--batch-size", "64", "--runs", "first", "--no-report", "--output", "json").Output);
        string weights = Path.Combine(first.RootElement.GetProperty("checkpoint").GetString()!, "weights.safetensors");
        string[] hardlyMoved = ["--epochs", "1", "--set", "training.optimizer.learning_rate=1e-12", "--set", "training.embedding_optimizer.learning_rate=1e-12", "--no-report", "--output", "json"];

        using JsonDocument second = JsonDocument.Parse(Run(0, ["train", "model.json", "--parameters", weights, "--runs", "second", .. hardlyMoved]).Output);
        using JsonDocument drawn = JsonDocument.Parse(Run(0, ["train", "model.json", "--runs", "drawn", .. hardlyMoved]).Output);

        double auc = Metric(first.RootElement.GetProperty("test"), "big", "auc");
        Assert.Equal(auc, Metric(second.RootElement.GetProperty("test"), "big", "auc"), 1e-6);
        Assert.NotEqual(auc, Metric(drawn.RootElement.GetProperty("test"), "big", "auc"), 1e-3);

        byte[] bytes = File.ReadAllBytes(weights);
        File.WriteAllBytes(Path.Combine(_folder.Path, "short.safetensors"), bytes[..^5]);
        ToolResult cut = Run(2, "train", "model.json", "--parameters", "short.safetensors", "--runs", "none");
        ToolResult wide = Run(2, "train", "model.json", "--parameters", weights, "--set", "tasks[0].name=large", "--set", "tasks[0].column=big", "--runs", "none");

        Assert.Contains("short.safetensors", cut.Error, StringComparison.Ordinal);
        Assert.Contains("weights.safetensors", wide.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(Path.Combine(_folder.Path, "none")));
    }

    [Fact]
    public void Train_Cancelled_SavesACheckpointThatResumeGoesOnFrom()
    {
        WriteData("train.csv", 2000, seed: 1);
        Run(0, "init", "train.csv", "--task", "big", "--task", "amount");
        using CancellationTokenSource cancellation = new();
        using StringWriter output = new();
        using CancellingWriter error = new(cancellation);
        string model = Path.Combine(_folder.Path, "model.json");
        string runs = Path.Combine(_folder.Path, "runs");

        int code = CliApplication.Run(["train", model, "--runs", runs, "--epochs", "50", "--set", "training.early_stopping=null"], output, error, cancellation.Token);

        Assert.Equal(130, code);
        string folder = Assert.Single(Directory.GetDirectories(runs));
        IReadOnlyList<RunEvent> events = RunLogReader.Read(Path.Combine(folder, "metrics.jsonl"));
        Assert.Equal(RunStatus.Cancelled, Assert.IsType<RunEndedEvent>(events[^1]).Status);
        Assert.Contains("cudamoe resume", error.ToString(), StringComparison.Ordinal);
        Assert.True(File.Exists(Path.Combine(folder, "report.html")));

        Run(0, "resume", folder);

        events = RunLogReader.Read(Path.Combine(folder, "metrics.jsonl"));
        Assert.Equal(RunStatus.Completed, Assert.IsType<RunEndedEvent>(events[^1]).Status);
        Assert.Single(events.OfType<RunResumedEvent>());
        Assert.Equal(Enumerable.Range(1, 50), events.OfType<EpochEvent>().Select(e => e.Epoch));
    }

    [Fact]
    public void Train_Interrupted_SavesACheckpointAndExitsWith130()
    {
        // Signals are the system's own way to interrupt; Windows has another.
        if (OperatingSystem.IsWindows())
            return;
        WriteData("train.csv", 4000, seed: 1);
        Run(0, "init", "train.csv", "--task", "big", "--task", "amount");

        ToolResult result = ToolProcess.RunUntil(
            _folder.Path,
            line => line.StartsWith("epoch 1", StringComparison.Ordinal),
            "INT",
            "train", "model.json", "--epochs", "3000", "--set", "training.early_stopping=null", "--output", "json");

        Assert.True(result.ExitCode == 130, result.Error);
        using JsonDocument run = JsonDocument.Parse(result.Output);
        Assert.Equal("cancelled", run.RootElement.GetProperty("status").GetString());
        Assert.True(Directory.Exists(run.RootElement.GetProperty("checkpoint").GetString()));
    }

    [Theory]
    [InlineData("name,age\n", "model.json", 2)]
    [InlineData(null, "model.json", 2)]
    [InlineData("{ \"name\": \"x\" }", "model.json", 2)]
    public void Train_WrongModelFile_IsAUsageError(string? text, string name, int code)
    {
        if (text is not null)
            _folder.Write(name, text);

        ToolResult result = Run(code, "train", name);

        Assert.Contains(name, result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Train_BadDataFile_NamesFileAndLineAndIsAUsageError()
    {
        WriteData("train.csv", 50, seed: 1);
        Run(0, "init", "train.csv", "--task", "big");
        File.AppendAllText(Path.Combine(_folder.Path, "train.csv"), "1,2\n");

        ToolResult result = Run(2, "train", "model.json");

        Assert.Contains("train.csv, line 52", result.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(Path.Combine(_folder.Path, "runs")));
    }

    [Fact]
    public void Train_DiesOfNaN_FailsWithOneAndStillReports()
    {
        WriteData("train.csv", 2000, seed: 1);
        Run(0, "init", "train.csv", "--task", "amount");

        ToolResult result = Run(1, "train", "model.json", "--set", "training.optimizer={\"type\":\"sgd\",\"learning_rate\":1e30}");

        Assert.Contains("report", result.Error, StringComparison.Ordinal);
        string folder = Assert.Single(Directory.GetDirectories(Path.Combine(_folder.Path, "runs")));
        Assert.Matches(@"error: step \d+: the loss of task amount is (NaN|-?Infinity); the first tensor that is not finite is the (logits of task amount|parameter \S+)", result.Error);
        Assert.Contains($"the last good checkpoint is {Path.Combine(folder, "checkpoints", "000001-step-0")}", result.Error, StringComparison.Ordinal);
        Run(0, "evaluate", folder, "--split", "validation");
        Assert.Contains("Failed after", File.ReadAllText(Path.Combine(folder, "report.html")), StringComparison.Ordinal);
    }

    [Fact]
    public void Train_PrintConfig_WritesEveryDefaultAndTrainsNothing()
    {
        WriteData("train.csv", 50, seed: 1);
        Run(0, "init", "train.csv", "--task", "big");

        ToolResult result = Run(0, "train", "model.json", "--print-config", "--seed", "99");

        using JsonDocument config = JsonDocument.Parse(result.Output);
        Assert.Equal(99, config.RootElement.GetProperty("training").GetProperty("seed").GetInt64());
        Assert.False(Directory.Exists(Path.Combine(_folder.Path, "runs")));
    }

    [SimtFact]
    public void Train_OnTheExecutor_EvaluatesAndPredictsAsTheCpuDoes()
    {
        WriteData("train.csv", 200, seed: 1);
        WriteData("test.csv", 60, seed: 2);
        Run(0, "init", "train.csv", "--test", "test.csv", "--task", "big", "--task", "amount");

        ToolResult trained = Run(0, "train", "model.json", "--epochs", "1", "--batch-size", "50", "--device", "simt", "--output", "json");

        using JsonDocument run = JsonDocument.Parse(trained.Output);
        Assert.Equal("completed", run.RootElement.GetProperty("status").GetString());
        string folder = run.RootElement.GetProperty("run_folder").GetString()!;
        double auc = Metric(run.RootElement.GetProperty("test"), "big", "auc");
        using JsonDocument onCpu = JsonDocument.Parse(Run(0, "evaluate", folder, "--device", "cpu", "--output", "json").Output);
        Assert.Equal(auc, Metric(onCpu.RootElement.GetProperty("metrics"), "big", "auc"), 1e-3);
        Run(0, "predict", folder, "test.csv", "--to", "simt.csv", "--device", "simt");
        Run(0, "predict", folder, "test.csv", "--to", "cpu.csv", "--device", "cpu");
        string[][] files = [File.ReadAllLines(Path.Combine(_folder.Path, "simt.csv")), File.ReadAllLines(Path.Combine(_folder.Path, "cpu.csv"))];
        Assert.Equal(61, files[0].Length);
        foreach ((string left, string right) in files[0].Skip(1).Zip(files[1].Skip(1)))
        {
            foreach ((string a, string b) in left.Split(',').Zip(right.Split(',')))
                Assert.Equal(double.Parse(b, CultureInfo.InvariantCulture), double.Parse(a, CultureInfo.InvariantCulture), 1e-4);
        }
    }

    [SimtTheory]
    [InlineData("simt:memory=1000")]
    [InlineData("simt:fault=5")]
    public void Train_FailingExecutor_IsExplained(string device) => Train_UnusableDevice_IsExplained(device, 3);

    [Theory]
    [InlineData("nonsense", 2)]
    [InlineData("cpu:threads=0", 2)]
    [InlineData("cuda:97", 3)]
    public void Train_UnusableDevice_IsExplained(string device, int code)
    {
        WriteData("train.csv", 50, seed: 1);
        Run(0, "init", "train.csv", "--task", "big");

        ToolResult result = Run(code, "train", "model.json", "--device", device);

        Assert.Contains("error: ", result.Error, StringComparison.Ordinal);
    }

    private void CheckPredictions(string folder)
    {
        Run(0, "predict", folder, "test.csv", "--to", "out.csv", "--keep", "id");
        string[] lines = File.ReadAllLines(Path.Combine(_folder.Path, "out.csv"));
        string[] source = File.ReadAllLines(Path.Combine(_folder.Path, "test.csv"));
        Assert.Equal("id,big,amount,kind,kind=blue,kind=green,kind=red", lines[0]);
        Assert.Equal(source.Length, lines.Length);
        double error = 0;
        for (int i = 1; i < lines.Length; i++)
        {
            string[] fields = lines[i].Split(',');
            string[] given = source[i].Split(',');
            Assert.Equal(given[0], fields[0]);
            double[] numbers = [.. fields.Where((_, f) => f is not 3).Select(f => double.Parse(f, CultureInfo.InvariantCulture))];
            Assert.InRange(numbers[1], 0, 1);
            Assert.Equal(1, numbers[3] + numbers[4] + numbers[5], 1e-5);
            error += Math.Abs(numbers[2] - double.Parse(given[4], CultureInfo.InvariantCulture)) / (lines.Length - 1);
        }

        // In the label's own unit, where amounts are 100 to 140.
        Assert.True(error < 5, $"mean absolute error {error}");
        Assert.StartsWith("big,amount", Run(0, "predict", folder, "test.csv").Output, StringComparison.Ordinal);
    }

    private ToolResult Run(int expected, params string[] arguments)
    {
        ToolResult result = ToolProcess.Run(_folder.Path, null, arguments);
        Assert.True(expected == result.ExitCode, $"{string.Join(' ', arguments)} gave {result.ExitCode}\n{result.Error}");
        return result;
    }

    private static double Metric(JsonElement tasks, string task, string metric) => tasks.EnumerateArray()
        .Single(t => t.GetProperty("task").GetString() == task).GetProperty("metrics").EnumerateArray()
        .Single(m => m.GetProperty("name").GetString() == metric).GetProperty("value").GetDouble();

    // Whether size is big, an amount that grows with it, and a kind that depends on the city.
    private void WriteData(string name, int rows, int seed)
    {
        Random random = new(seed);
        StringBuilder csv = new("id,size,city,big,amount,kind\n");
        for (int i = 0; i < rows; i++)
        {
            double size = random.NextDouble() * 4;
            int city = random.Next(12);
            csv.AppendLine(CultureInfo.InvariantCulture, $"{i % 500},{size:0.####},city {city},{(size > 2 ? 1 : 0)},{100 + (10 * size):0.##},{(city % 3) switch { 0 => "red", 1 => "green", _ => "blue" }}");
        }

        _folder.Write(name, csv.ToString());
    }

    /// <summary>Cancels when the first epoch is shown.</summary>
    private sealed class CancellingWriter(CancellationTokenSource cancellation) : StringWriter
    {
        public override void WriteLine(string? value)
        {
            base.WriteLine(value);
            if (value is not null && value.StartsWith("epoch 1", StringComparison.Ordinal))
                cancellation.Cancel();
        }
    }
}
