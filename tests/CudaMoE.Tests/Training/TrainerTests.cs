using System.Diagnostics;
using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Tests.Support;
using CudaMoE.Training;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Training;

/// <summary>Whole runs: learning, resuming to the same bits, and ending well in every way that a run can end.</summary>
public sealed class TrainerTests(ITestOutputHelper output)
{
    public static TheoryData<BalancerType, string> Kinds { get; } = new()
    {
        { BalancerType.Equal, "dense" },
        { BalancerType.MultiBalance, "dense" },
        { BalancerType.Mgda, "top2" },
        { BalancerType.MultiBalance, "noisy" },
    };

    public static TheoryData<BalancerType> Balancers => [.. Enum.GetValues<BalancerType>()];

    [Theory]
    [MemberData(nameof(Balancers))]
    public void Resume_EveryBalancer_EndsWithTheBitsOfAnUnbrokenRun(BalancerType balancer) => CheckResumed(TestDevices.Default, new() { Type = balancer });

    [Theory]
    [DeviceData(BalancerType.Moco)]
    [DeviceData(BalancerType.Modo)]
    [DeviceData(BalancerType.DbMtl)]
    [DeviceData(BalancerType.ExcessMtl)]
    public void Resume_VectorsOfSharedParameters_EndsWithTheBitsOfAnUnbrokenRun(string device, BalancerType balancer) =>
        CheckResumed(device, new() { Type = balancer, Place = RepresentationPlace.SharedParameters });

    private static void CheckResumed(string device, BalancerDescription balancer)
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root, rows: device == TestDevices.Simt ? 300 : 500);
        ModelDescription description = TrainingFixture.Describe(TrainingFixture.Training(device) with { Balancer = balancer });
        TrainingResult whole = Trainer.Train(description, folder.Root, TrainingFixture.Options(folder.Root, device));
        using CancellationTokenSource source = new();
        TrainingResult part = Trainer.Train(description, folder.Root, TrainingFixture.Options(folder.Root, device), new StepWatcher(Math.Min(9, whole.Steps - 1), source.Cancel), source.Token);
        Assert.Equal(RunStatus.Cancelled, part.Status);
        TrainingResult rest = Trainer.Resume(part.RunFolder, TrainingFixture.Options(folder.Root, device));
        Assert.Equal(TrainingFixture.LatestWeights(whole.RunFolder), TrainingFixture.LatestWeights(rest.RunFolder));
    }

    [Theory]
    [MemberData(nameof(Balancers))]
    public void Train_LearnablePattern_IsLearned(BalancerType balancer)
    {
        string device = TestDevices.Default;
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root);
        ModelDescription description = TrainingFixture.Describe(TrainingFixture.Training(device, balancer) with { BatchSize = 64, Epochs = 12 });
        TrainingResult result = Trainer.Train(description, folder.Root, TrainingFixture.Options(folder.Root, device));
        Assert.Equal(RunStatus.Completed, result.Status);
        Assert.True(Value(result, "click", "auc") > 0.95, $"click AUC {Value(result, "click", "auc")}");
        Assert.True(Value(result, "like", "auc") > 0.8, $"like AUC {Value(result, "like", "auc")}");
        Assert.True(Value(result, "watch", "rmse") < 8, $"watch RMSE {Value(result, "watch", "rmse")}");
        Assert.Equal(12 * ((1200 + 63) / 64), result.Steps);
        Assert.True(File.Exists(Path.Combine(result.RunFolder, "metrics.jsonl")));
        Assert.NotNull(CheckpointFolder.Open(result.CheckpointPath!));
    }

    /// <summary>Tables on the host with a cache: the checkpoint has what only the cache had.</summary>
    [Theory]
    [DeviceData]
    public void Resume_TablesOnTheHost_EndsWithTheBitsOfTablesOnTheDevice(string device)
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root, rows: 300);
        ModelDescription plain = TrainingFixture.Describe(TrainingFixture.Training(device));
        TableStorage storage = new() { Place = StoragePlace.Host, CacheRows = 8 };
        ModelDescription cached = plain with { Features = [.. plain.Features.Select(f => f.Dimension == null ? f : f with { Storage = storage })] };
        TrainingResult whole = Trainer.Train(plain, folder.Root, TrainingFixture.Options(folder.Root, device));

        int stopAt = Random.Shared.Next(1, (int)whole.Steps);
        output.WriteLine($"cancelled after step {stopAt} of {whole.Steps}");
        using CancellationTokenSource source = new();
        TrainingResult part = Trainer.Train(cached, folder.Root, TrainingFixture.Options(folder.Root, device), new StepWatcher(stopAt, source.Cancel), source.Token);
        Assert.Equal(RunStatus.Cancelled, part.Status);
        TrainingResult rest = Trainer.Resume(part.RunFolder, TrainingFixture.Options(folder.Root, device));
        Assert.Equal(TrainingFixture.LatestWeights(whole.RunFolder), TrainingFixture.LatestWeights(rest.RunFolder));
        Assert.Equal(Numbers(whole), Numbers(rest));
    }

    [Theory]
    [DeviceMemberData(nameof(Kinds))]
    public void Resume_AfterCancellation_EndsWithTheBitsOfAnUnbrokenRun(string device, BalancerType balancer, string gate)
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root, device == TestDevices.Simt ? 600 : 1500);
        ModelDescription description = TrainingFixture.Describe(TrainingFixture.Training(device, balancer), Gate(gate));
        TrainingResult whole = Trainer.Train(description, folder.Root, TrainingFixture.Options(folder.Root, device));

        int stopAt = Random.Shared.Next(1, (int)whole.Steps);
        output.WriteLine($"cancelled after step {stopAt} of {whole.Steps}");
        using CancellationTokenSource source = new();
        TrainingResult part = Trainer.Train(description, folder.Root, TrainingFixture.Options(folder.Root, device), new StepWatcher(stopAt, source.Cancel), source.Token);
        Assert.Equal(RunStatus.Cancelled, part.Status);
        Assert.Equal(stopAt, part.Steps);
        TrainingResult rest = Trainer.Resume(part.RunFolder, TrainingFixture.Options(folder.Root, device));
        Assert.Equal(RunStatus.Completed, rest.Status);
        Assert.Equal(TrainingFixture.LatestWeights(whole.RunFolder), TrainingFixture.LatestWeights(rest.RunFolder));
        Assert.Equal(Numbers(whole), Numbers(rest));
    }

    [Theory]
    [DeviceData]
    public void Resume_AfterKill_EndsWithTheBitsOfAnUnbrokenRun(string device)
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root, device == TestDevices.Simt ? 600 : 1500);
        ModelDescription description = TrainingFixture.Describe(ChildTraining(device));
        TrainingResult whole = Trainer.Train(description, folder.Root, TrainingFixture.Options(folder.Root, device));

        using Process child = ChildProcess.Start("trainer", folder.Root, device);
        string runFolder = child.StandardOutput.ReadLine()!;
        Random random = new();
        long killAt = random.Next(1, (int)whole.Steps);
        string? line;
        do
        {
            line = child.StandardOutput.ReadLine();
        }
        while (line != null && long.Parse(line, System.Globalization.CultureInfo.InvariantCulture) < killAt);
        Thread.Sleep(random.Next(0, 20));
        child.Kill();
        child.WaitForExit();
        output.WriteLine($"killed after step {line}");

        TrainingResult rest = Trainer.Resume(runFolder, TrainingFixture.Options(folder.Root, device));
        Assert.Equal(RunStatus.Completed, rest.Status);
        Assert.Equal(TrainingFixture.LatestWeights(whole.RunFolder), TrainingFixture.LatestWeights(runFolder));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Train_AnyNumberOfThreads_GivesTheSameBits(BalancerType balancer, string gate)
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root);
        ModelDescription description = TrainingFixture.Describe(TrainingFixture.Training(TestDevices.Cpu, balancer) with { Epochs = 1, BatchSize = 700 }, Gate(gate));
        byte[][] weights = [.. new[] { 1, 2, 5 }.Select(threads =>
            TrainingFixture.LatestWeights(Trainer.Train(description, folder.Root, TrainingFixture.Options(folder.Root, $"cpu:threads={threads}")).RunFolder))];
        Assert.Equal(weights[0], weights[1]);
        Assert.Equal(weights[0], weights[2]);
    }

    [Theory]
    [DeviceData]
    public void Train_ExplodingLoss_NamesStepTaskAndTensorAndKeepsTheLastGoodCheckpoint(string device)
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root);
        ModelDescription description = TrainingFixture.Describe(TrainingFixture.Training(device, BalancerType.Equal) with
        {
            ClipNorm = null,
            Optimizer = new() { Type = OptimizerType.Sgd, LearningRate = 1e20f },
            Schedule = new(),
            CheckpointSteps = null,
        });
        NonFiniteException error = Assert.Throws<NonFiniteException>(() => Trainer.Train(description, folder.Root, TrainingFixture.Options(folder.Root, device)));
        Assert.Matches("step [0-9]+: the loss of task (click|like|watch) is .*(parameter|logits|features)", error.Message);
        string run = Assert.Single(Directory.GetDirectories(Path.Combine(folder.Root, "runs")));
        Assert.Equal(0, new CheckpointStore(Path.Combine(run, "checkpoints")).OpenLatest()!.State.Step);
        Assert.Contains("\"failed\"", File.ReadAllText(Path.Combine(run, "metrics.jsonl")), StringComparison.Ordinal);
    }

    [Fact]
    public void Train_NoImprovement_StopsEarlyAndTestsTheBestWeights()
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root);
        ModelDescription description = TrainingFixture.Describe(TrainingFixture.Training(TestDevices.Default) with
        {
            Epochs = 40,
            EarlyStopping = new() { Metric = "click/auc", Patience = 1, MinDelta = 0.05 },
        });
        TrainingResult result = Trainer.Train(description, folder.Root, TrainingFixture.Options(folder.Root, TestDevices.Default));
        Assert.Equal(RunStatus.EarlyStopped, result.Status);
        Assert.Equal(new CheckpointStore(Path.Combine(result.RunFolder, "checkpoints")).OpenBest()!.Folder, result.CheckpointPath);
    }

    [Fact]
    public void Resume_OfARunThatIsTrained_IsRefusedAndChangesNothing()
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root);
        ModelDescription description = TrainingFixture.Describe(TrainingFixture.Training(TestDevices.Default) with { Epochs = 2 });
        string? refused = null;
        TrainingResult result = Trainer.Train(
            description,
            folder.Root,
            TrainingFixture.Options(folder.Root, TestDevices.Default),
            new StepWatcher(3, () =>
            {
                string run = Assert.Single(Directory.GetDirectories(Path.Combine(folder.Root, "runs")));
                byte[] log = ReadShared(Path.Combine(run, "metrics.jsonl"));
                refused = Assert.Throws<RunLogException>(() => Trainer.Resume(run, TrainingFixture.Options(folder.Root, TestDevices.Default))).Message;
                Assert.Equal(log, ReadShared(Path.Combine(run, "metrics.jsonl")));
            }));
        Assert.Equal(RunStatus.Completed, result.Status);
        Assert.Contains("another process trains in it", refused, StringComparison.Ordinal);
        Assert.Equal(RunStatus.Completed, Trainer.Resume(result.RunFolder, TrainingFixture.Options(folder.Root, TestDevices.Default)).Status);

        static byte[] ReadShared(string path)
        {
            using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            byte[] bytes = new byte[file.Length];
            file.ReadExactly(bytes);
            return bytes;
        }
    }

    [Fact]
    public void Resume_AlteredCheckpoint_IsRefused()
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root);
        TrainingResult result = Trainer.Train(TrainingFixture.Describe(TrainingFixture.Training(TestDevices.Default) with { Epochs = 1 }), folder.Root, TrainingFixture.Options(folder.Root, TestDevices.Default));
        string weights = Path.Combine(result.CheckpointPath!, CheckpointFolder.WeightsFile);
        byte[] bytes = File.ReadAllBytes(weights);
        bytes[^1] ^= 1;
        File.WriteAllBytes(weights, bytes);
        CheckpointFormatException error = Assert.Throws<CheckpointFormatException>(() => Trainer.Resume(result.RunFolder));
        Assert.Contains(CheckpointFolder.WeightsFile, error.Message, StringComparison.Ordinal);
    }

    /// <summary>The child of <see cref="Resume_AfterKill_EndsWithTheBitsOfAnUnbrokenRun"/>: prints its run folder, then each step.</summary>
    internal static int RunChild(string folder, string device)
    {
        Trainer.Train(TrainingFixture.Describe(ChildTraining(device)), folder, TrainingFixture.Options(folder, device), new StepPrinter());
        return 0;
    }

    private static TrainingDescription ChildTraining(string device) => TrainingFixture.Training(device, BalancerType.MultiBalance) with { CheckpointSteps = 3 };

    private static GateDescription Gate(string kind) => kind switch
    {
        "top2" => new() { TopK = 2, BalanceLoss = 0.01f, CapacityFactor = 1.0 },
        "noisy" => new() { TopK = 2, Score = ScoreMode.Noisy },
        _ => new(),
    };

    private static double Value(TrainingResult result, string task, string metric) =>
        result.Test.Single(t => t.Task == task).Metrics.Single(m => m.Name == metric).Value ?? double.NaN;

    private static double?[] Numbers(TrainingResult result) => [.. result.Test.SelectMany(t => t.Metrics).Select(m => m.Value)];

    private sealed class StepWatcher(long stopAt, Action stop) : ITrainingObserver
    {
        public void OnProgress(in TrainingProgress progress)
        {
            if (progress.Step == stopAt)
                stop();
        }
    }

    private sealed class StepPrinter : ITrainingObserver
    {
        public void OnStarted(string runFolder, RunStartedEvent started) => Console.WriteLine(runFolder);

        public void OnProgress(in TrainingProgress progress) => Console.WriteLine(progress.Step);
    }
}
