using System.Text;
using System.Text.Json;
using CudaMoE.Training;

namespace CudaMoE.Tests.Training;

public sealed class RunLogTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("cudamoe-runlog-").FullName;

    private string LogPath => Path.Combine(_folder, "metrics.jsonl");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Append_EveryKindOfEvent_ReadsBackTheSame()
    {
        RunEvent[] written = [.. OneOfEach()];
        using (RunLog log = RunLog.Create(LogPath))
        {
            for (int i = 0; i < written.Length; i++)
                written[i] = log.Append(written[i]);
        }

        IReadOnlyList<RunEvent> read = RunLogReader.Read(LogPath);

        Assert.Equal(written.Select(e => e.GetType()), read.Select(e => e.GetType()));
        Assert.Equal(written.Select(Json), read.Select(Json));
        Assert.All(read, e => Assert.NotNull(e.Time));
    }

    [Fact]
    public void Append_Step_IsOneSnakeCaseLineThatStartsWithItsKind()
    {
        DateTimeOffset time = new(2026, 1, 2, 3, 4, 5, TimeSpan.Zero);
        using (RunLog log = RunLog.Create(LogPath))
            log.Append(Step(7) with { Time = time, Losses = [0.25, double.NaN], GradientNorms = [1, 2], Cosines = [1, -0.5, -0.5, 1] });

        string text = File.ReadAllText(LogPath);

        Assert.Equal(
            """{"event":"step","time":"2026-01-02T03:04:05+00:00","step":7,"epoch":1,"samples_per_second":1000,"learning_rate":0.001,"""
            + """ "losses":[0.25,"NaN"],"weights":[1,1],"gradient_norms":[1,2],"cosines":[1,-0.5,-0.5,1]}""".TrimStart() + "\n",
            text);
    }

    [Fact]
    public void Append_RunEnded_WritesTheStatusInSnakeCase()
    {
        using (RunLog log = RunLog.Create(LogPath))
            log.Append(new RunEndedEvent { Step = 9, Status = RunStatus.EarlyStopped, Seconds = 1 });

        Assert.Contains("\"status\":\"early_stopped\"", File.ReadAllText(LogPath), StringComparison.Ordinal);
    }

    [Fact]
    public void Append_IsVisibleToAReaderBeforeTheLogIsClosed()
    {
        using RunLog log = RunLog.Create(LogPath);
        log.Append(Step(1));

        Assert.Single(RunLogReader.Read(LogPath));
        log.Append(Step(2));
        Assert.Equal(2, RunLogReader.Read(LogPath).Count);
    }

    [Fact]
    public async Task Append_FromSeveralThreads_KeepsLinesWhole()
    {
        using (RunLog log = RunLog.Create(LogPath))
        {
            await Task.WhenAll(Enumerable.Range(0, 4).Select(t => Task.Run(() =>
            {
                for (int i = 0; i < 50; i++)
                    log.Append(Step((t * 50) + i));
            })));
        }

        Assert.Equal(Enumerable.Range(0, 200).Select(i => (long)i), RunLogReader.Read(LogPath).Select(e => e.Step).Order());
    }

    [Fact]
    public void Read_LogCutAtEveryByte_GivesTheWholeLines()
    {
        using (RunLog log = RunLog.Create(LogPath))
        {
            log.Append(Step(1));
            log.Append(Step(2));
        }

        byte[] bytes = File.ReadAllBytes(LogPath);
        int first = Array.IndexOf(bytes, (byte)'\n') + 1;
        for (int length = 0; length < bytes.Length; length++)
        {
            File.WriteAllBytes(LogPath, bytes[..length]);
            Assert.Equal(length < first ? 0 : 1, RunLogReader.Read(LogPath).Count);
        }
    }

    [Fact]
    public void Read_LastLineOfZerosWithLineEnd_IsSkipped()
    {
        using (RunLog log = RunLog.Create(LogPath))
            log.Append(Step(1));
        File.AppendAllText(LogPath, new string('\0', 20) + "\n");

        Assert.Single(RunLogReader.Read(LogPath));
    }

    [Theory]
    [InlineData("{\"event\":\"step\"")]
    [InlineData("{\"event\":\"step\",\"step\":1}")]
    [InlineData("null")]
    [InlineData("[1]")]
    [InlineData("{\"step\":1}")]
    public void Read_BrokenLineInTheMiddle_NamesFileAndLine(string broken)
    {
        using (RunLog log = RunLog.Create(LogPath))
            log.Append(Step(1));
        File.AppendAllText(LogPath, broken + "\n" + Encoding.UTF8.GetString(File.ReadAllBytes(LogPath)));

        RunLogException e = Assert.Throws<RunLogException>(() => RunLogReader.Read(LogPath));

        Assert.Contains($"{LogPath}, line 2", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Read_EventOfAKindFromLater_IsSkipped()
    {
        using (RunLog log = RunLog.Create(LogPath))
            log.Append(Step(1));
        string line = File.ReadAllText(LogPath);
        File.AppendAllText(LogPath, "{\"event\":\"from_the_future\",\"step\":1,\"x\":[]}\n" + line);

        Assert.Equal(2, RunLogReader.Read(LogPath).Count);
    }

    [Fact]
    public void Read_UnknownProperty_IsIgnored()
    {
        using (RunLog log = RunLog.Create(LogPath))
            log.Append(Step(1));
        File.WriteAllText(LogPath, File.ReadAllText(LogPath).Replace("\"epoch\":1", "\"epoch\":1,\"new\":{\"a\":1}", StringComparison.Ordinal));

        Assert.Equal(1, Assert.IsType<StepEvent>(Assert.Single(RunLogReader.Read(LogPath))).Epoch);
    }

    [Fact]
    public void Read_NoFile_SaysSo() =>
        Assert.Contains(LogPath, Assert.Throws<RunLogException>(() => RunLogReader.Read(LogPath)).Message, StringComparison.Ordinal);

    [Fact]
    public void Create_FileExists_IsRefusedAndLeftAlone()
    {
        File.WriteAllText(LogPath, "kept");

        Assert.Throws<RunLogException>(() => RunLog.Create(LogPath));

        Assert.Equal("kept", File.ReadAllText(LogPath));
    }

    [Theory]
    [InlineData(0, 1)]
    [InlineData(10, 2)]
    [InlineData(19, 2)]
    [InlineData(20, 4)]
    [InlineData(1000, 5)]
    public void Resume_AtAStep_CutsWhatCameLaterAndGoesOn(long step, int kept)
    {
        using (RunLog log = RunLog.Create(LogPath))
        {
            log.Append(new CheckpointEvent { Step = 0, Path = "checkpoints/0" });
            log.Append(Step(10));
            log.Append(Step(20));
            log.Append(new CheckpointEvent { Step = 20, Path = "checkpoints/20" });
            log.Append(Step(30));
            log.Append(new RunEndedEvent { Step = 30, Status = RunStatus.Cancelled, Seconds = 3 });
        }

        using (RunLog log = RunLog.Resume(LogPath, step))
            log.Append(Step(step + 1));

        IReadOnlyList<RunEvent> events = RunLogReader.Read(LogPath);
        Assert.Equal(kept + 1, events.Count);
        Assert.Equal(step + 1, events[^1].Step);
        Assert.DoesNotContain(events, e => e is RunEndedEvent);
    }

    [Fact]
    public void Resume_TornLastLine_IsReplaced()
    {
        using (RunLog log = RunLog.Create(LogPath))
        {
            log.Append(Step(1));
            log.Append(Step(2));
        }

        byte[] bytes = File.ReadAllBytes(LogPath);
        File.WriteAllBytes(LogPath, bytes[..^5]);

        using (RunLog log = RunLog.Resume(LogPath, 2))
            log.Append(Step(2));

        Assert.Equal([1, 2], RunLogReader.Read(LogPath).Select(e => e.Step));
    }

    [Fact]
    public void Folder_CreatedTwiceInASecond_GetsTwoNames()
    {
        FixedClock clock = new(new(2026, 3, 4, 5, 6, 7, TimeSpan.Zero));

        RunFolder first = RunFolder.Create(_folder, "census", clock);
        RunFolder second = RunFolder.Create(_folder, "census", clock);

        Assert.Equal(Path.Combine(_folder, "census-20260304-050607"), first.Path);
        Assert.Equal(first.Path + "-2", second.Path);
        Assert.True(Directory.Exists(second.CheckpointsPath));
    }

    [Fact]
    public void Folder_CreatedAtOnce_GivesEachRunAFolderOfItsOwn()
    {
        FixedClock clock = new(new(2026, 3, 4, 5, 6, 7, TimeSpan.Zero));
        string[] paths = new string[48];

        Parallel.For(0, paths.Length, i => paths[i] = RunFolder.Create(_folder, "census", clock).Path);

        Assert.Equal(paths.Length, paths.Distinct().Count());
        Assert.Equal(paths.Order(StringComparer.Ordinal), Directory.GetDirectories(_folder).Order(StringComparer.Ordinal));
        Assert.All(paths, path => Assert.True(Directory.Exists(Path.Combine(path, "checkpoints"))));
    }

    [Fact]
    public void Folder_RootIsAFile_SaysSo()
    {
        string file = Path.Combine(_folder, "file");
        File.WriteAllText(file, "");

        Assert.Throws<RunLogException>(() => RunFolder.Create(file, "census"));
    }

    [Fact]
    public void Folder_OpenedWithoutALog_SaysThatItIsNoRunFolder()
    {
        Assert.Contains("not a run folder", Assert.Throws<RunLogException>(() => RunFolder.Open(_folder)).Message, StringComparison.Ordinal);
        Assert.Contains("no run folder", Assert.Throws<RunLogException>(() => RunFolder.Open(LogPath)).Message, StringComparison.Ordinal);
    }

    private static string Json(RunEvent e) => JsonSerializer.Serialize(e, RunLogJson.Default.RunEvent);

    private static StepEvent Step(long step) =>
        new() { Step = step, Epoch = 1, SamplesPerSecond = 1000, LearningRate = 0.001, Losses = [0.5, 0.25], Weights = [1, 1] };

    private static IEnumerable<RunEvent> OneOfEach()
    {
        yield return new RunStartedEvent
        {
            Step = 0,
            Name = "census",
            Version = "0.1.0",
            Device = "cpu: x",
            Level = "avx2",
            Threads = 2,
            Architecture = "mmoe",
            Tasks = ["income", "mårried"],
            Experts = 4,
            DenseParameters = 5,
            EmbeddingParameters = long.MaxValue,
            TrainRows = 1,
            ValidationRows = 2,
            TestRows = 3,
            BatchSize = 4,
            Epochs = 5,
            StepsPerEpoch = 6,
            Seed = ulong.MaxValue,
            Balancer = "equal",
            BalancerPlace = "tower_input",
        };
        yield return new RunResumedEvent { Step = 0, Checkpoint = "checkpoints/1", Version = "0.1.0", Device = "cpu: x", Level = "avx2", Threads = 2 };
        yield return Step(1) with { Lambda = [0.5, 0.5], GradientNorm = double.PositiveInfinity, DroppedRows = 3, ExpertLoad = [0.25, 0.75] };
        IReadOnlyList<TaskMetrics> metrics =
        [
            new() { Task = "income", Rows = 10, Metrics = [MetricValue.Of("auc", 0.75), MetricValue.NotDefined("gauc", "no groups"), MetricValue.Of("ne", double.NaN)] },
        ];
        yield return new EpochEvent { Step = 2, Epoch = 1, TrainLosses = [1, 2], Validation = metrics, Score = 0.5, Best = true, TrainSeconds = 1, ValidationSeconds = 2, SamplesPerSecond = 3 };
        yield return new GatesEvent { Step = 2, Split = "test", Gates = ["income"], Experts = 2, MeanWeights = [0.5, 0.5], ExpertLoad = [0.5, 0.5] };
        yield return new CalibrationEvent { Step = 2, Split = "test", Tasks = [new() { Task = "income", Bins = [new(0.1, 0.2, 3)] }] };
        yield return new TestEvent { Step = 2, Epoch = 1, Metrics = metrics, Seconds = 1 };
        yield return new CheckpointEvent { Step = 2, Path = "checkpoints/step-2", Best = true };
        yield return new RunEndedEvent { Step = 2, Status = RunStatus.Failed, Message = "loss of income is NaN", Seconds = 4 };
    }

    private sealed class FixedClock(DateTimeOffset now) : TimeProvider
    {
        public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.Utc;

        public override DateTimeOffset GetUtcNow() => now;
    }
}
