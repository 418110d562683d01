using System.Diagnostics;
using CudaMoE.Checkpoints;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Checkpoints;

public sealed class CheckpointStoreTests(ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string> Stages =>
        ["clean", "model.json", "encoders.json", "weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json", "rename", "latest", "best", "prune"];

    [Fact]
    public void Save_ThenOpen_GivesEverythingBack()
    {
        TrainingState state = new()
        {
            Step = 12,
            Epoch = 3,
            Batch = 4,
            Seed = ulong.MaxValue,
            Random = new Dictionary<string, IReadOnlyList<ulong>> { ["shuffle"] = [ulong.MaxValue, 0] },
            Balancer = new Dictionary<string, IReadOnlyList<double>> { ["lambda"] = [0.1, 1d / 3, double.Epsilon], ["u"] = [double.NaN, double.PositiveInfinity, -0d] },
            EarlyStopping = new() { Best = 0.1 + 0.2, BestEpoch = 2, Waited = 1 },
            Running = new Dictionary<string, IReadOnlyList<double>> { ["loss"] = [double.MaxValue] },
        };
        CheckpointStore store = new(_folder.Root);
        Assert.Null(store.OpenLatest());
        Assert.Null(store.OpenBest());
        string path = store.Save(CheckpointWriterProcess.Content(12) with { State = state });

        Assert.Equal(_folder["000001-step-12"], path);
        CheckpointFolder opened = store.OpenLatest()!;
        Assert.Null(store.OpenBest());
        Assert.Equal(path, opened.Folder);
        Assert.Equal(state.Seed, opened.State.Seed);
        Assert.Equal(state.Random["shuffle"], opened.State.Random["shuffle"]);
        foreach ((string name, IReadOnlyList<double> values) in state.Balancer)
            Assert.Equal(values.Select(BitConverter.DoubleToInt64Bits), opened.State.Balancer[name].Select(BitConverter.DoubleToInt64Bits));
        Assert.Equal(state.EarlyStopping, opened.State.EarlyStopping);
        Assert.Equal(state.Running["loss"], opened.State.Running["loss"]);
        Assert.Equal("{}", File.ReadAllText(opened.ModelPath));
        Assert.Equal(12, CheckpointWriterProcess.StepOf(opened));
    }

    [Fact]
    public void Save_WithoutOptimizerAndEncoders_OpensForInferenceOnly()
    {
        CheckpointStore store = new(_folder.Root);
        store.Save(CheckpointWriterProcess.Content(1) with { AddOptimizer = null, WriteEncoders = null });
        CheckpointFolder opened = store.OpenLatest()!;
        Assert.Null(opened.EncodersPath);
        Assert.Null(opened.OptimizerPath);
        Assert.Contains("training cannot go on", Assert.Throws<CheckpointFormatException>(opened.OpenOptimizer).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Save_Many_KeepsTheNewestTheLatestAndTheBest()
    {
        CheckpointStore store = new(_folder.Root, keep: 2);
        for (int step = 1; step <= 6; step++)
            store.Save(CheckpointWriterProcess.Content(step * 10), best: step == 2);
        Assert.Equal(["000002-step-20", "000005-step-50", "000006-step-60"], store.List().Select(Path.GetFileName));
        Assert.Equal(20, store.OpenBest()!.State.Step);
        Assert.Equal(60, store.OpenLatest()!.State.Step);

        // A run that went back to an earlier step: its checkpoints are newer, whatever their step.
        store.Save(CheckpointWriterProcess.Content(30));
        store.MarkBest(store.List()[^1]);
        store.Save(CheckpointWriterProcess.Content(30));
        Assert.Equal(["000007-step-30", "000008-step-30"], store.List().Select(Path.GetFileName));
        Assert.Throws<CudaMoEException>(() => store.MarkBest(_folder["000099-step-1"]));
        Assert.Throws<CudaMoEException>(() => store.MarkBest(_folder.Root));
    }

    [Fact]
    public void Save_WhileAnotherWriterHoldsTheStore_IsRefused()
    {
        CheckpointStore second = new(_folder.Root);
        CudaMoEException? error = null;
        CheckpointStore first = new(_folder.Root)
        {
            Stage = stage =>
            {
                if (stage == "rename")
                    error = Assert.Throws<CudaMoEException>(() => second.Save(CheckpointWriterProcess.Content(2)));
            },
        };
        first.Save(CheckpointWriterProcess.Content(1));
        Assert.Contains("another process is saving", error!.Message, StringComparison.Ordinal);
        Assert.Equal(1, second.OpenLatest()!.State.Step);
    }

    [Fact]
    public void Save_SourceThrows_LeavesTheStoreAsItWas()
    {
        CheckpointStore store = new(_folder.Root);
        store.Save(CheckpointWriterProcess.Content(1));
        string[] before = Directory.GetFileSystemEntries(_folder.Root);
        Assert.Throws<InvalidDataException>(() => store.Save(CheckpointWriterProcess.Content(2) with { AddOptimizer = _ => throw new InvalidDataException() }));
        Assert.Equal(before, Directory.GetFileSystemEntries(_folder.Root));
        Assert.Equal(1, store.OpenLatest()!.State.Step);
    }

    [Fact]
    public void Save_DeletesLeftoversOfItsOwnNamesOnly()
    {
        foreach (string name in new[] { ".saving-000004-step-9", ".deleting-000001-step-1", ".saving-mine", "notes", "step-5" })
        {
            Directory.CreateDirectory(_folder[name]);
            File.WriteAllText(Path.Combine(_folder[name], "x"), "x");
        }

        new CheckpointStore(_folder.Root, keep: 1).Save(CheckpointWriterProcess.Content(1));
        Assert.Equal([".saving-mine", "000001-step-1", "notes", "step-5"], Directory.GetDirectories(_folder.Root).Select(Path.GetFileName).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Open_AnyFileTruncatedAlteredOrMissing_NamesIt()
    {
        string path = new CheckpointStore(_folder.Root).Save(CheckpointWriterProcess.Content(1));
        Random random = new(5);
        foreach (string file in Directory.GetFiles(path))
        {
            byte[] whole = File.ReadAllBytes(file);
            string name = Path.GetFileName(file);
            for (int trial = 0; trial < 20; trial++)
            {
                File.WriteAllBytes(file, whole[..random.Next(whole.Length)]);
                Assert.Contains(name, Assert.Throws<CheckpointFormatException>(() => CheckpointFolder.Open(path)).Message, StringComparison.Ordinal);
                byte[] flipped = [.. whole];
                flipped[random.Next(whole.Length)] ^= (byte)(1 << random.Next(8));
                File.WriteAllBytes(file, flipped);
                string message = Assert.Throws<CheckpointFormatException>(() => CheckpointFolder.Open(path)).Message;
                Assert.Contains(Path.GetFileName(path), message, StringComparison.Ordinal);
            }

            File.WriteAllBytes(file, [.. whole, 0]);
            Assert.Contains(name, Assert.Throws<CheckpointFormatException>(() => CheckpointFolder.Open(path)).Message, StringComparison.Ordinal);
            File.Delete(file);
            Assert.Contains(name, Assert.Throws<CheckpointFormatException>(() => CheckpointFolder.Open(path)).Message, StringComparison.Ordinal);
            File.WriteAllBytes(file, whole);
            Assert.Equal(1, CheckpointWriterProcess.StepOf(CheckpointFolder.Open(path)));
        }
    }

    [Fact]
    public void Open_AnyBitOfTheManifestFlipped_NeverGivesAnotherCheckpoint()
    {
        string path = new CheckpointStore(_folder.Root).Save(CheckpointWriterProcess.Content(1));
        string file = Path.Combine(path, "manifest.json");
        byte[] whole = File.ReadAllBytes(file);
        int opened = 0;
        int first = Environment.TickCount & 7;
        output.WriteLine($"bits from {first} in steps of 8 to 10");
        for (int bit = first; bit < whole.Length * 8; bit += 8 + (bit % 3))
        {
            byte[] flipped = [.. whole];
            flipped[bit / 8] ^= (byte)(1 << (bit % 8));
            File.WriteAllBytes(file, flipped);
            try
            {
                Assert.Equal(1, CheckpointWriterProcess.StepOf(CheckpointFolder.Open(path)));
                opened++;
            }
            catch (CheckpointFormatException)
            {
                // Refused, as it should be.
            }
        }

        // Only blanks that become other blanks leave the meaning alone.
        Assert.InRange(opened, 0, whole.Length / 8);
    }

    [Fact]
    public void Open_ExtraFile_IsRefusedUnlessHidden()
    {
        string path = new CheckpointStore(_folder.Root).Save(CheckpointWriterProcess.Content(1));
        File.WriteAllText(Path.Combine(path, ".DS_Store"), "");
        CheckpointFolder.Open(path);
        Directory.CreateDirectory(Path.Combine(path, "extra"));
        Assert.Contains("extra: is not listed", Assert.Throws<CheckpointFormatException>(() => CheckpointFolder.Open(path)).Message, StringComparison.Ordinal);
        Assert.Contains("is not a folder", Assert.Throws<CheckpointFormatException>(() => CheckpointFolder.Open(path + "x")).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("../000001-step-1\n")]
    [InlineData("")]
    [InlineData("latest")]
    [InlineData("000001-step-1\n000001-step-1\n")]
    public void OpenLatest_BadPointer_IsNamed(string content)
    {
        CheckpointStore store = new(_folder.Root);
        store.Save(CheckpointWriterProcess.Content(1));
        File.WriteAllText(_folder["latest"], content);
        Assert.Contains("must hold the name of a checkpoint", Assert.Throws<CheckpointFormatException>(store.OpenLatest).Message, StringComparison.Ordinal);
        File.WriteAllText(_folder["latest"], "000009-step-9\n");
        Assert.Contains("000009-step-9", Assert.Throws<CheckpointFormatException>(store.OpenLatest).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task OpenLatest_WhileAWriterSavesAndPrunes_AlwaysFindsAWholeOne()
    {
        CheckpointStore writer = new(_folder.Root, keep: 1);
        writer.Save(CheckpointWriterProcess.Content(1));
        int reads = 0;
        using CancellationTokenSource stop = new();
        Task reading = Task.Run(() =>
        {
            long last = 0;
            while (!stop.IsCancellationRequested)
            {
                CheckpointFolder checkpoint = new CheckpointStore(_folder.Root).OpenLatest()!;
                Assert.True(checkpoint.State.Step >= last);
                last = checkpoint.State.Step;
                Interlocked.Increment(ref reads);
            }
        });
        // As many saves as it takes for the two to meet often: on one busy core the reader may not run for a while.
        for (int step = 2; (step < 100 || Volatile.Read(ref reads) < 20) && !reading.IsCompleted; step++)
            writer.Save(CheckpointWriterProcess.Content(step));
        await stop.CancelAsync();
        await reading;
        Assert.Single(writer.List());
    }

    [Fact]
    public void Load_CheckpointDeletedMeanwhile_LoadsTheNewerOne()
    {
        CheckpointStore writer = new(_folder.Root, keep: 1);
        Assert.Null(CheckpointStore.Load(_folder.Root, checkpoint => checkpoint));
        writer.Save(CheckpointWriterProcess.Content(1), best: true);
        List<long> offered = [];
        long step = CheckpointStore.Load(_folder.Root, checkpoint =>
        {
            offered.Add(checkpoint.State.Step);
            if (offered.Count < 4)
                writer.Save(CheckpointWriterProcess.Content(offered.Count + 1), best: true);
            return CheckpointWriterProcess.StepOf(checkpoint);
        });
        Assert.Equal(4, step);
        Assert.Equal([1, 2, 3, 4], offered);
    }

    [Fact]
    public void Load_CheckpointsDeletedFasterThanTheyLoad_EndsAndNamesTheLast()
    {
        CheckpointStore writer = new(_folder.Root, keep: 1);
        writer.Save(CheckpointWriterProcess.Content(1));
        int tried = 0;
        CheckpointFormatException error = Assert.Throws<CheckpointFormatException>(() => CheckpointStore.Load(_folder.Root, checkpoint =>
        {
            tried++;
            writer.Save(CheckpointWriterProcess.Content(tried + 1));
            return CheckpointWriterProcess.StepOf(checkpoint);
        }));
        Assert.InRange(tried, 2, 1000);
        Assert.Equal(_folder[$"{tried:D6}-step-{tried}"], error.File);
        Assert.Contains("was deleted while it was being loaded", error.Message, StringComparison.Ordinal);
        Assert.IsAssignableFrom<IOException>(error.InnerException);
    }

    [Fact]
    public void Load_TheCheckpointItself_HasNoOtherInItsPlace()
    {
        CheckpointStore writer = new(_folder.Root, keep: 1);
        string path = writer.Save(CheckpointWriterProcess.Content(1));
        int tried = 0;
        CheckpointFormatException error = Assert.Throws<CheckpointFormatException>(() => CheckpointStore.Load(path, checkpoint =>
        {
            tried++;
            writer.Save(CheckpointWriterProcess.Content(2));
            return CheckpointWriterProcess.StepOf(checkpoint);
        }));
        Assert.Equal((1, path), (tried, error.File));
    }

    [Fact]
    public void Load_FailsForAnotherReason_IsNotTriedAgain()
    {
        new CheckpointStore(_folder.Root).Save(CheckpointWriterProcess.Content(1));
        int tried = 0;
        Assert.Throws<InvalidDataException>(() => CheckpointStore.Load<int>(_folder.Root, _ =>
        {
            tried++;
            throw new InvalidDataException();
        }));
        Assert.Equal(1, tried);
    }

    [Theory]
    [MemberData(nameof(Stages))]
    public void Save_KilledAtAStage_LeavesTheOldOrTheNewOne(string stage)
    {
        new CheckpointStore(_folder.Root, keep: 1).Save(CheckpointWriterProcess.Content(1), best: true);
        using (Process child = ChildProcess.Start("checkpoint-writer", _folder.Root, stage))
        {
            Assert.Equal("at stage", child.StandardOutput.ReadLine());
            child.Kill();
            child.WaitForExit();
        }

        CheckpointStore store = new(_folder.Root, keep: 1);
        bool switched = stage is "best" or "prune";
        Assert.Equal(switched ? 2 : 1, CheckpointWriterProcess.StepOf(store.OpenLatest()!));
        Assert.Equal(stage == "prune" ? 2 : 1, CheckpointWriterProcess.StepOf(store.OpenBest()!));
        store.Save(CheckpointWriterProcess.Content(3), best: true);
        Assert.Single(Directory.GetDirectories(_folder.Root));
        Assert.Equal(3, CheckpointWriterProcess.StepOf(store.OpenLatest()!));
    }

    [Fact]
    public void Save_KilledAtRandomMoments_NeverLosesASavedCheckpoint()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        for (int kill = 0; kill < 8; kill++)
        {
            long saved = 0;
            using (Process child = ChildProcess.Start("checkpoint-writer", _folder.Root, "none"))
            {
                // The first save may take long to come, since the process must start; then any moment.
                saved = Read(child.StandardOutput.ReadLine());
                Thread.Sleep(random.Next(60));
                child.Kill();
                while (child.StandardOutput.ReadLine() is { } line)
                    saved = Read(line);
                child.WaitForExit();
            }

            CheckpointStore store = new(_folder.Root);
            long latest = CheckpointWriterProcess.StepOf(store.OpenLatest()!);
            Assert.InRange(latest, saved, saved + 1);
            Assert.InRange(CheckpointWriterProcess.StepOf(store.OpenBest()!), saved, saved + 1);
            foreach (string path in store.List())
                CheckpointWriterProcess.StepOf(CheckpointFolder.Open(path));
        }

        static long Read(string? line)
        {
            // A line that was cut by the kill says nothing new.
            Assert.NotNull(line);
            return line.StartsWith("saved ", StringComparison.Ordinal) ? long.Parse(line.AsSpan(6), System.Globalization.CultureInfo.InvariantCulture) : 0;
        }
    }
}
