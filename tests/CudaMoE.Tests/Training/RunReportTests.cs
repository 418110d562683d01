using System.Text.Json;
using System.Text.RegularExpressions;
using CudaMoE.Training;

namespace CudaMoE.Tests.Training;

public sealed partial class RunReportTests : IDisposable
{
    private const string Hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"quoted\" 'single' & <!--";

    private readonly string _folder = Directory.CreateTempSubdirectory("cudamoe-report-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Write_ScriptedRun_HasEverySectionAndChart()
    {
        RunFolder folder = RunFolder.Create(_folder, "census");
        using (RunLog log = RunLog.Create(folder.MetricsPath))
        {
            foreach (RunEvent e in RunLogScript.Events(["income", "married", "college"]))
                log.Append(e);
        }

        string path = RunReport.Write(folder);

        Assert.Equal(folder.ReportPath, path);
        string html = File.ReadAllText(path);
        Assert.Equal(
            ["test", "curves", "calibration", "gates", "load", "balancer", "speed", "checkpoints"],
            SectionIds().Matches(html).Select(m => m.Groups[1].Value));
        Assert.Equal(
            ["calibration", "cosines", "dropped", "lambda", "load", "load-steps", "loss", "metric", "norms", "rate", "speed", "weights"],
            ChartKinds().Matches(html).Select(m => m.Groups[1].Value).Distinct().Order(StringComparer.Ordinal));
        Assert.DoesNotContain("class=\"missing\"", html, StringComparison.Ordinal);
        Assert.Contains("Completed after 31.4 s", html, StringComparison.Ordinal);
        Assert.Contains("184\u202f325 dense", html, StringComparison.Ordinal);
        Assert.Contains("GAUC of income, married, college: no group column", html, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(folder.Path, "*.tmp"));
    }

    /// <summary>Worse beyond both deviations; worse within them; better; of two tasks in conflict the report names the one with the least cosine.</summary>
    [Fact]
    public void Build_SingleTaskRuns_MarkNegativeTransferAndNameTheConflict()
    {
        IReadOnlyList<RunEvent>[] runs = [Run(("a", 0.80), ("b", 0.90), ("c", 0.70)), Run(("a", 0.81), ("b", 0.92), ("c", 0.71))];
        IReadOnlyList<RunEvent>[] single = [Run(("a", 0.84)), Run(("a", 0.85)), Run(("b", 0.93), ("c", 0.60)), Run(("b", 0.91), ("c", 0.61))];
        IReadOnlyList<TaskTransfer> transfer = RunComparison.Of(runs, single);
        Assert.Equal(["a", "b", "c"], transfer.Select(task => task.Task));
        Assert.Equal([true, false, false], transfer.Select(task => task.Worse));
        Assert.Equal(-0.04, transfer[0].Gain, 12);
        Assert.Equal(2 * 0.01 / Math.Sqrt(2), transfer[0].Spread!.Value, 12);
        Assert.Equal("c", transfer[0].Conflict!.Second);
        string html = RunReport.Build(runs[0], transfer);
        Assert.Contains("transfer", SectionIds().Matches(html).Select(m => m.Groups[1].Value));
        Assert.Contains("Negative transfer: a is worse than alone by 0.0400 in auc, beyond the spread of 0.0141. Its gradient goes least with that of c: mean cosine -0.300, below 0 in 75 % of 400 steps.", System.Net.WebUtility.HtmlDecode(html), StringComparison.Ordinal);
        Assert.DoesNotContain("Negative transfer: b", html, StringComparison.Ordinal);
        Assert.Contains("<td class=\"good\">better</td>", html, StringComparison.Ordinal);
        Assert.DoesNotContain("id=\"transfer\"", RunReport.Build(runs[0]), StringComparison.Ordinal);

        static IReadOnlyList<RunEvent> Run(params (string Task, double Auc)[] tasks)
        {
            List<RunEvent> events = RunLogScript.Events([.. tasks.Select(task => task.Task)]);
            int epoch = events.FindIndex(e => e is EpochEvent);
            TaskPair[] pairs = [Pair("a", "b", 0.1, 0.25), Pair("a", "c", -0.3, 0.75), Pair("b", "c", -0.6, 1)];
            events[epoch] = ((EpochEvent)events[epoch]) with { Pairs = tasks.Length == 3 ? pairs : null };
            int test = events.FindIndex(e => e is TestEvent);
            events[test] = ((TestEvent)events[test]) with
            {
                Metrics = [.. tasks.Select(task => new TaskMetrics { Task = task.Task, Rows = 10, Metrics = [MetricValue.Of("calibration", 1), MetricValue.Of("auc", task.Auc), MetricValue.Of("log_loss", 0.5)] })],
            };
            return events;
        }

        static TaskPair Pair(string first, string second, double cosine, double conflicts) => new() { First = first, Second = second, MeanCosine = cosine, Conflicts = conflicts, Steps = 200 };
    }

    /// <summary>With one run on each side nothing is marked, since nothing says what chance does; a loss counts the other way round.</summary>
    [Fact]
    public void Compare_OneRunEach_SaysThatTheSpreadIsNotKnown()
    {
        List<RunEvent> run = With(0.5), single = With(0.4);
        TaskTransfer task = Assert.Single(RunComparison.Of([run], [single]));
        Assert.Equal(-0.1, task.Gain, 12);
        Assert.Null(task.Spread);
        Assert.False(task.Worse);
        Assert.Contains("lower; one run each, spread not known", RunReport.Build(run, [task]), StringComparison.Ordinal);
        Assert.True(Assert.Single(RunComparison.Of([run], [single, With(0.41)])).Worse);
        Assert.Contains("observe_every", RunReport.Build(run, RunComparison.Of([run], [single, With(0.41)])), StringComparison.Ordinal);

        static List<RunEvent> With(double logLoss)
        {
            List<RunEvent> events = RunLogScript.Events(["a"]);
            int test = events.FindIndex(e => e is TestEvent);
            events[test] = ((TestEvent)events[test]) with { Metrics = [new() { Task = "a", Rows = 10, Metrics = [MetricValue.NotDefined("auc", "no positive rows"), MetricValue.Of("log_loss", logLoss)] }] };
            return events;
        }
    }

    [Fact]
    public void Compare_RunsThatDoNotFit_SayWhy()
    {
        List<RunEvent> run = RunLogScript.Events(["a"]);
        Assert.Contains("no task by one metric", Assert.Throws<RunLogException>(() => RunComparison.Of([run], [RunLogScript.Events(["b"])])).Message, StringComparison.Ordinal);
        Assert.Contains("has not been tested", Assert.Throws<RunLogException>(() => RunComparison.Of([run], [run.Where(e => e is not TestEvent).ToList()])).Message, StringComparison.Ordinal);
        Assert.Contains("no run_started", Assert.Throws<RunLogException>(() => RunComparison.Of([[]], [run])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Build_EveryChartInThePage_IsDrawnByTheScript()
    {
        string html = RunReport.Build(RunLogScript.Events(["a", "b"]));
        string script = html[html.LastIndexOf("<script>", StringComparison.Ordinal)..];

        foreach (string kind in ChartKinds().Matches(html).Select(m => m.Groups[1].Value).Distinct())
            Assert.Matches($@"\n    '?{kind}'?(\(|: \(\) =>)", script);
    }

    [Fact]
    public void Build_LoadsNothingFromElsewhere()
    {
        string html = RunReport.Build(RunLogScript.Events(["a", "b"]));

        Assert.Contains("default-src 'none'", html, StringComparison.Ordinal);
        Assert.DoesNotMatch(@"<(script|link|img|iframe)[^>]*\b(src|href)\s*=", html);
        Assert.DoesNotContain("@import", html, StringComparison.Ordinal);
        Assert.Contains("Chart.js Contributors", html, StringComparison.Ordinal);
    }

    [Fact]
    public void Build_HostileNames_StayText()
    {
        List<RunEvent> events = RunLogScript.Events([Hostile, "b"], name: Hostile);
        events[^1] = new RunEndedEvent { Step = 1, Status = RunStatus.Failed, Message = Hostile, Seconds = 1 };
        events.Add(new CheckpointEvent { Step = 1, Path = Hostile });
        events.Add(new TestEvent { Step = 1, Epoch = 1, Seconds = 1, Metrics = [new() { Task = Hostile, Rows = 1, Metrics = [MetricValue.NotDefined(Hostile, Hostile)] }] });
        string plain = RunReport.Build(RunLogScript.Events(["a", "b"]));

        string html = RunReport.Build(events);

        Assert.Equal(Count(plain, "<script"), Count(html, "<script"));
        Assert.Equal(Count(plain, "</script"), Count(html, "</script"));
        Assert.Equal(Count(plain, "<!--"), Count(html, "<!--"));
        Assert.DoesNotContain("<img", html, StringComparison.Ordinal);
        Assert.Contains("&lt;/script&gt;", html, StringComparison.Ordinal);
        using JsonDocument data = Data(html);
        Assert.Equal(Hostile, data.RootElement.GetProperty("tasks")[0].GetString());
    }

    [Fact]
    public void Build_OnlyTheStart_SaysWhatIsMissing()
    {
        string html = RunReport.Build([RunLogScript.Events(["a", "b"])[0]]);

        Assert.Contains("Not ended: still running, or killed", html, StringComparison.Ordinal);
        foreach (string sentence in new[] { "The run has not been tested.", "No step has been logged.", "No calibration", "No gates", "No expert load", "No checkpoint" })
            Assert.Contains(sentence, html, StringComparison.Ordinal);
        using JsonDocument data = Data(html);
        Assert.Equal(0, data.RootElement.GetProperty("steps").GetProperty("step").GetArrayLength());
    }

    [Fact]
    public void Build_ModelWithoutExpertsAndOneTask_SaysSo()
    {
        List<RunEvent> events = [((RunStartedEvent)RunLogScript.Events(["a"])[0]) with { Experts = 0, Architecture = "single_task" }];
        events.Add(new StepEvent { Step = 1, Epoch = 1, SamplesPerSecond = 1, LearningRate = 1, Losses = [1], Weights = [1], Cosines = [1] });

        string html = RunReport.Build(events);

        Assert.Equal(2, Count(html, "This model has no experts."));
        Assert.DoesNotContain("data-chart=\"cosines\"", html, StringComparison.Ordinal);
    }

    [Fact]
    public void Build_NotFiniteNumbers_AreGaps()
    {
        List<RunEvent> events = [RunLogScript.Events(["a", "b"])[0]];
        events.Add(new StepEvent { Step = 1, Epoch = 1, SamplesPerSecond = 1, LearningRate = 1, Losses = [double.NaN, 0.5], Weights = [1, double.PositiveInfinity] });
        events.Add(new EpochEvent { Step = 1, Epoch = 1, TrainLosses = [double.NaN, 0.5], Validation = [], TrainSeconds = 1, ValidationSeconds = 1, SamplesPerSecond = 1 });

        using JsonDocument data = Data(RunReport.Build(events));

        JsonElement steps = data.RootElement.GetProperty("steps");
        Assert.Equal("[[null],[0.5]]", steps.GetProperty("losses").GetRawText());
        Assert.Equal("[[1],[null]]", steps.GetProperty("weights").GetRawText());
        Assert.Equal("[[null],[0.5]]", data.RootElement.GetProperty("epochs").GetProperty("train_losses").GetRawText());
    }

    [Fact]
    public void Build_LongRun_AveragesStepsIntoAtMostAThousandPoints()
    {
        List<RunEvent> events = [RunLogScript.Events(["a"])[0]];
        for (int i = 1; i <= 2500; i++)
            events.Add(new StepEvent { Step = i, Epoch = 1, SamplesPerSecond = 1, LearningRate = 1, Losses = [i % 3 == 0 ? double.NaN : i], Weights = [1] });

        using JsonDocument data = Data(RunReport.Build(events));

        JsonElement steps = data.RootElement.GetProperty("steps");
        Assert.Equal(3, steps.GetProperty("merged").GetInt32());
        Assert.Equal(834, steps.GetProperty("step").GetArrayLength());
        Assert.Equal(2, steps.GetProperty("step")[0].GetDouble());
        Assert.Equal(1.5, steps.GetProperty("losses")[0][0].GetDouble());
        Assert.Equal(2500, steps.GetProperty("losses")[0][833].GetDouble());
    }

    [Fact]
    public void Build_ManyTasks_KeepsThePairsThatConflictMost()
    {
        string[] tasks = [.. Enumerable.Range(0, 10).Select(i => $"t{i}")];
        double[] cosines = [.. Enumerable.Range(0, 100).Select(i => i == 12 ? -0.9 : 0.5)];
        List<RunEvent> events = [RunLogScript.Events(tasks)[0]];
        events.Add(new StepEvent { Step = 1, Epoch = 1, SamplesPerSecond = 1, LearningRate = 1, Losses = new double[10], Weights = new double[10], Cosines = cosines });

        string html = RunReport.Build(events);

        using JsonDocument data = Data(html);
        JsonElement pairs = data.RootElement.GetProperty("steps").GetProperty("cosines");
        Assert.Equal(28, pairs.GetArrayLength());
        Assert.Equal("t1 / t2", pairs[0].GetProperty("name").GetString());
        Assert.Contains("the 28 pairs of 45 that conflict most", html, StringComparison.Ordinal);
    }

    [Fact]
    public void Build_NoStart_IsRefused() =>
        Assert.Contains("no run_started", Assert.Throws<RunLogException>(() => RunReport.Build([])).Message, StringComparison.Ordinal);

    [Fact]
    public void Build_GatesOfAnotherShape_AreRefused()
    {
        List<RunEvent> events = [RunLogScript.Events(["a"])[0]];
        events.Add(new GatesEvent { Step = 5, Split = "test", Gates = ["a"], Experts = 2, MeanWeights = [1], ExpertLoad = [1, 0] });

        Assert.Contains("1 weights and 2 loads for 1 gates and 2 experts", Assert.Throws<RunLogException>(() => RunReport.Build(events)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(3.21, "3.2 s")]
    [InlineData(59.96, "60.0 s")]
    [InlineData(125, "2 min 05 s")]
    [InlineData(3725, "1 h 02 min")]
    public void Duration_IsReadable(double seconds, string text) => Assert.Equal(text, HtmlText.Duration(seconds));

    [Theory]
    [InlineData(0.957912, "0.9579")]
    [InlineData(0, "0.0000")]
    [InlineData(-12.5, "-12.5000")]
    [InlineData(0.000012345, "1.234E-05")]
    [InlineData(123456.7, "1.235E+05")]
    public void Number_IsReadable(double value, string text) => Assert.Equal(text, HtmlText.Number(value));

    private static int Count(string text, string part) => Regex.Count(text, Regex.Escape(part), RegexOptions.IgnoreCase);

    private static JsonDocument Data(string html)
    {
        Match match = DataElement().Match(html);
        Assert.True(match.Success);
        return JsonDocument.Parse(match.Groups[1].Value);
    }

    [GeneratedRegex("<section id=\"([a-z]+)\"")]
    private static partial Regex SectionIds();

    [GeneratedRegex("data-chart=\"([a-z-]+)\"")]
    private static partial Regex ChartKinds();

    [GeneratedRegex("<script type=\"application/json\" id=\"run-data\">(.*?)</script>", RegexOptions.Singleline)]
    private static partial Regex DataElement();
}
