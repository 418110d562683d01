using System.Diagnostics;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Data;

/// <summary>The cache: when it is reused, rebuilt, shared and refused.</summary>
public sealed class CacheTests : IDisposable
{
    private static readonly ModelDescription Model = Describe.Model([Describe.Category("c"), Describe.X], [Describe.Y]);
    private readonly TemporaryFolder _folder = new();

    public CacheTests() => _folder.Write("train.csv", "c,x,y\n" + string.Concat(Enumerable.Range(0, 500).Select(i => $"v{i % 7},{i},{i % 2}\n")));

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Open_Again_ReusesTheCache()
    {
        Assert.True(Opened(Model).Built);
        Assert.False(Opened(Model).Built);
        Assert.Single(Folders());
    }

    [Fact]
    public void Open_WhatOnlyTheModelUsesChanged_ReusesTheCache()
    {
        Assert.True(Opened(Model).Built);
        FeatureDescription wider = Describe.Category("c") with { Dimension = 16, Storage = new() { Place = StoragePlace.Host } };
        ModelDescription changed = Model with { Features = [wider, Describe.X], Tasks = [Describe.Y with { Weight = 3 }] };
        using Dataset data = Dataset.Open(changed, _folder.Root);
        Assert.False(data.WasBuilt);
        Assert.Equal(16, data.Layout.Sparse[0].Dimension);
        Assert.Equal(16, data.Encoders.Tables[0].Dimension);
        Assert.Equal(StoragePlace.Host, data.Encoders.Features[0].Description.Storage!.Place);
        Assert.Equal(3, data.Encoders.Tasks[0].Description.Weight);
    }

    [Fact]
    public void Open_TaskGivenAnotherOne_ReusesTheCache()
    {
        TaskDescription second = Describe.Y with { Name = "again", Column = "y" };
        ModelDescription apart = Model with { Tasks = [Describe.Y, second] };
        Assert.True(Opened(apart).Built);
        using Dataset data = Dataset.Open(apart with { Tasks = [Describe.Y, second with { Given = "y" }] }, _folder.Root);
        Assert.False(data.WasBuilt);
        Assert.Equal("y", data.Encoders.Tasks[1].Description.Given);
    }

    [Theory]
    [InlineData("storage", null)]
    [InlineData("given", null)]
    [InlineData("min count", "feature \"c\"")]
    [InlineData("weight column", "task \"again\"")]
    [InlineData("name", "task \"again\"")]
    public void Open_EncodersOfACheckpoint_AreTakenUnlessTheyEncodeOtherwise(string change, string? refused)
    {
        TaskDescription second = Describe.Y with { Name = "again", Column = "y" };
        ModelDescription trained = Model with { Tasks = [Describe.Y, second] };
        using Dataset first = Dataset.Open(trained, _folder.Root);
        FeatureDescription category = Describe.Category("c");
        ModelDescription changed = change switch
        {
            "storage" => trained with { Features = [category with { Storage = new() { Place = StoragePlace.Host } }, Describe.X] },
            "given" => trained with { Tasks = [Describe.Y, second with { Given = "y" }] },
            "min count" => trained with { Features = [category with { MinCount = 2 }, Describe.X] },
            "weight column" => trained with { Tasks = [Describe.Y, second with { WeightColumn = "x" }] },
            _ => trained with { Tasks = [Describe.Y, second with { Name = "other" }] },
        };
        if (refused != null)
        {
            Assert.Contains(refused, Assert.Throws<DataException>(() => Dataset.Open(changed, _folder.Root, first.Encoders)).Message);
            return;
        }

        using Dataset again = Dataset.Open(changed, _folder.Root, first.Encoders);
        Assert.Equal(first.Train.Rows, again.Train.Rows);
    }

    public static TheoryData<string> Changes => ["feature", "task", "format", "split", "content", "time", "group"];

    [Theory]
    [MemberData(nameof(Changes))]
    public void Open_SourceOrEncodersChanged_BuildsAnew(string change)
    {
        Assert.True(Opened(Model).Built);
        string path = _folder["train.csv"];
        ModelDescription changed = Model;
        switch (change)
        {
            case "feature":
                changed = Model with { Features = [Describe.Category("c") with { MinCount = 2 }, Describe.X] };
                break;
            case "task":
                changed = Model with { Tasks = [Describe.Y with { WeightColumn = "x" }] };
                break;
            case "format":
                changed = Model with { Data = Model.Data! with { Format = new() { Missing = ["v1"] } } };
                break;
            case "split":
                changed = Model with { Data = Model.Data! with { ValidationSplit = new() } };
                break;
            case "group":
                changed = Model with { Data = Model.Data! with { GroupColumn = "c" } };
                break;
            case "content":
                // Same length and time.
                DateTime time = File.GetLastWriteTimeUtc(path);
                File.WriteAllText(path, File.ReadAllText(path).Replace("v1,", "w1,", StringComparison.Ordinal));
                File.SetLastWriteTimeUtc(path, time);
                break;
            default:
                File.SetLastWriteTimeUtc(path, DateTime.UtcNow.AddMinutes(-5));
                break;
        }

        Assert.True(Opened(changed).Built);
        Assert.False(Opened(changed).Built);
    }

    public static TheoryData<string, string> Damages => new()
    {
        { "train.rows", "flip" }, { "train.rows", "cut" }, { "train.rows", "grow" }, { "train.rows", "delete" },
        { "encoders.json", "flip" }, { "encoders.json", "cut" }, { "encoders.json", "delete" },
        { "manifest", "flip" }, { "manifest", "cut" }, { "manifest", "empty" }, { "manifest", "delete" },
    };

    [Theory]
    [MemberData(nameof(Damages))]
    public void Open_DamagedCache_IsRebuiltWithANotice(string file, string damage)
    {
        string[] sound = Opened(Model).Rows;
        string path = Path.Combine(Assert.Single(Folders()), file);
        byte[] bytes = File.ReadAllBytes(path);
        if (damage == "flip")
            bytes[bytes.Length / 2] ^= 4;
        switch (damage)
        {
            case "delete":
                File.Delete(path);
                break;
            case "empty":
                File.WriteAllBytes(path, []);
                break;
            case "grow":
                File.WriteAllBytes(path, [.. bytes, 0]);
                break;
            default:
                File.WriteAllBytes(path, damage == "cut" ? bytes[..^1] : bytes);
                break;
        }

        using (Dataset data = Dataset.Open(Model, _folder.Root))
        {
            Assert.True(data.WasBuilt);
            Assert.Contains("is rebuilt: ", Assert.Single(data.Notices), StringComparison.Ordinal);
            Assert.Equal(sound, Rows(data));
        }

        Assert.Empty(Dataset.Open(Model, _folder.Root).Notices);
    }

    [Fact]
    public void Manifest_HugeFiles_AreCheckedByAnEvenSample()
    {
        Assert.Equal([0], CacheManifest.BlocksToCheck(1));
        Assert.Equal(Enumerable.Range(0, 4096), CacheManifest.BlocksToCheck(4096));
        int[] sample = [.. CacheManifest.BlocksToCheck(1_000_000)];
        Assert.Equal(4096, sample.Distinct().Count());
        Assert.Equal((0, 999_999), (sample[0], sample[^1]));
        Assert.Empty(CacheManifest.BlocksToCheck(0));
    }

    [Fact]
    public void Open_SeveralTasksAtOnce_BuildOnce()
    {
        int built = 0;
        string[][] rows = new string[6][];
        Parallel.For(0, rows.Length, new ParallelOptions { MaxDegreeOfParallelism = rows.Length }, i =>
        {
            (bool wasBuilt, rows[i]) = Opened(Model);
            if (wasBuilt)
                Interlocked.Increment(ref built);
        });
        Assert.Equal(1, built);
        Assert.All(rows, row => Assert.Equal(rows[0], row));
        Assert.Single(Folders());
    }

    [Fact]
    public void Open_SeveralProcessesAtOnce_BuildOnce()
    {
        Process[] processes = [.. Enumerable.Range(0, 3).Select(_ => ChildProcess.Start("dataset", _folder.Root))];
        string[] answers = [.. processes.Select(process => process.StandardOutput.ReadToEnd().Trim())];
        foreach (Process process in processes)
        {
            process.WaitForExit();
            Assert.Equal(0, process.ExitCode);
            process.Dispose();
        }

        Assert.Equal(["built 500", "found 500", "found 500"], answers.Order());
    }

    [Fact]
    public void Open_BuilderKilled_StartsAfresh()
    {
        using (Process process = ChildProcess.Start("dataset", _folder.Root, "hang"))
        {
            Assert.Equal("building", process.StandardOutput.ReadLine());
            process.Kill();
            process.WaitForExit();
        }

        Assert.Contains(Directory.EnumerateDirectories(_folder[".cudamoe-cache"]), name => name.EndsWith(".tmp", StringComparison.Ordinal));
        Assert.True(Opened(Model).Built);
        Assert.Single(Folders());
    }

    [Fact]
    public void Open_Cancelled_LeavesNothing()
    {
        using CancellationTokenSource source = new();
        Assert.Throws<OperationCanceledException>(() => Dataset.Open(Model, _folder.Root, progress: _ => source.Cancel(), cancellation: source.Token));
        Assert.Empty(Folders());
        Assert.True(Opened(Model).Built);
    }

    [Fact]
    public void Open_WhileAnotherBuilds_CanBeCancelled()
    {
        using Process process = ChildProcess.Start("dataset", _folder.Root, "hang");
        Assert.Equal("building", process.StandardOutput.ReadLine());
        using CancellationTokenSource source = new(TimeSpan.FromMilliseconds(200));
        Assert.Throws<OperationCanceledException>(() => Dataset.Open(Model, _folder.Root, cancellation: source.Token));
        process.Kill();
        process.WaitForExit();
    }

    [Fact]
    public void Open_Progress_TellsStagesFilesAndRows()
    {
        List<DatasetProgress> steps = [];
        ModelDescription model = Model with { Data = Model.Data! with { ValidationSplit = new() } };
        using Dataset data = Dataset.Open(model, _folder.Root, progress: steps.Add);
        Assert.Equal([DatasetStage.Counting, DatasetStage.Fitting, DatasetStage.Encoding], steps.Select(step => step.Stage));
        Assert.All(steps, step => Assert.Equal((500, step.Length, "train.csv"), (step.Rows, step.BytesRead, Path.GetFileName(step.File))));
    }

    [Fact]
    public void Open_CacheFolderThatCannotBe_IsNamed()
    {
        ModelDescription model = Model with { Data = Model.Data! with { Cache = "train.csv" } };
        DataException error = Assert.Throws<DataException>(() => Dataset.Open(model, _folder.Root));
        Assert.Contains("data.cache can name another folder", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Dispose_WhileALoaderRuns_KeepsItsRowsMapped()
    {
        Dataset data = Dataset.Open(Model, _folder.Root);
        using BatchLoader loader = data.Train.CreateLoader(new() { BatchSize = 7 });
        data.Dispose();
        int rows = 0;
        while (loader.TryTake(out Batch? batch))
        {
            rows += batch.Rows;
            loader.Return(batch);
        }

        Assert.Equal(500, rows);
        Assert.Throws<ObjectDisposedException>(() => data.Train.CreateLoader(new() { BatchSize = 7 }));
    }

    private static string[] Rows(Dataset data)
    {
        using Batch batch = new(data.Layout, 500);
        data.Train.Gather([.. Enumerable.Range(0, 500).Select(i => (long)i)], batch);
        return [.. Enumerable.Range(0, 500).Select(i => $"{batch.Ids(0)[i]} {batch.Dense[i]} {batch.Labels(0)[i]}")];
    }

    private (bool Built, string[] Rows) Opened(ModelDescription model)
    {
        using Dataset data = Dataset.Open(model, _folder.Root);
        return (data.WasBuilt, data.Train.Rows == 500 ? Rows(data) : []);
    }

    private string[] Folders() => [.. Directory.EnumerateDirectories(_folder[".cudamoe-cache"])];

    /// <summary>The child process: opens the data set of a folder; with "hang" it stops in the middle of the build.</summary>
    internal static int RunChild(string folder, bool hang)
    {
        using Dataset data = Dataset.Open(Model, folder, progress: step =>
        {
            if (!hang || step.Stage != DatasetStage.Encoding)
                return;
            Console.WriteLine("building");
            Thread.Sleep(Timeout.Infinite);
        });
        Console.WriteLine($"{(data.WasBuilt ? "built" : "found")} {data.Train.Rows}");
        return 0;
    }
}
