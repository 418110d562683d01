using System.Globalization;
using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Streaming;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Streaming;

/// <summary>Whole streams on small logs: growth, resumption with the same bits, rolling back, and what is refused.</summary>
public sealed class StreamTrainerTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [DeviceData]
    public void Run_WholeStream_TrainsTestsAndGrowsEveryWindow(string device)
    {
        StreamDescription description = Describe(windows: 4);
        Recorder recorder = new();
        StreamResult result = StreamTrainer.Run(description, new() { Device = device, Folder = _folder["run"] }, recorder);

        Assert.True(result.Complete);
        Assert.Equal([1, 2, 3], result.Windows.Select(window => window.Window));
        Assert.Equal([1, 2, 3], result.Windows.Select(window => window.Experts["text.layers.0"]));
        Assert.All(result.Windows, window => Assert.True(window.Test!.Sequences > 0 && double.IsFinite(window.Loss) && window.Loss > 0));
        Assert.Equal(3, recorder.Windows);
        Assert.Equal(result.Windows.Sum(window => window.Epochs), recorder.Epochs);
        Assert.Equal(3, result.Retained.Count);

        // The last window's own events are ranked by the weights that ended it, then and at the end.
        Assert.Equal(result.Windows[^1].Validation, result.Retained[^1]);

        // Experts of earlier windows are what they were, bit for bit; the newest one, the router and the rest have learnt.
        string[] checkpoints = [.. new CheckpointStore(_folder["run/windows"]).List()];
        Dictionary<string, float[]> second = Weights(checkpoints[1]), third = Weights(checkpoints[2]);
        foreach (string part in (string[])["down", "up"])
        {
            foreach (int k in (int[])[0, 1])
                Assert.Equal(second[$"text.layers.1.experts.{k}.{part}"], third[$"text.layers.1.experts.{k}.{part}"]);
            float[] mean = [.. second[$"text.layers.1.experts.0.{part}"].Zip(second[$"text.layers.1.experts.1.{part}"], (a, b) => (float)(((double)a + b) / 2))];
            Assert.NotEqual(mean, third[$"text.layers.1.experts.2.{part}"]);
        }

        Assert.NotEqual(second["fusion.weight"], third["fusion.weight"]);
        Assert.NotEqual(second["user.positions"], third["user.positions"]);
        Assert.NotEqual(second["text.layers.0.router.weight"], third["text.layers.0.router.weight"][..second["text.layers.0.router.weight"].Length]);
    }

    [Theory]
    [DeviceData]
    public void Run_BrokenOffAndGoneOn_HasTheBitsOfAnUnbrokenRun(string device)
    {
        StreamDescription description = Describe(windows: 4);
        StreamResult whole = StreamTrainer.Run(description, new() { Device = device, Folder = _folder["whole"] });

        StreamOptions broken = new() { Device = device == TestDevices.Cpu ? "cpu:threads=1" : device, Folder = _folder["broken"] };
        StreamTrainer.Run(description, broken with { Until = 1 });
        using CancellationTokenSource source = new();
        Assert.Throws<OperationCanceledException>(() => StreamTrainer.Run(description, broken, new Recorder { Cancel = source, CancelAtEpoch = 2 }, source.Token));
        StreamResult resumed = StreamTrainer.Run(description, broken);

        AssertSame(whole, resumed, "whole", "broken");

        // Rolled back and run again: the same once more.
        StreamTrainer.RollBack(description, _folder["broken"], 1);
        Assert.Single(new CheckpointStore(_folder["broken/windows"]).List());
        AssertSame(whole, StreamTrainer.Run(description, broken), "whole", "broken");
        StreamTrainer.RollBack(description, _folder["broken"], 0);
        Assert.Empty(new CheckpointStore(_folder["broken/windows"]).List());
        AssertSame(whole, StreamTrainer.Run(description, broken), "whole", "broken");
        Assert.Throws<CudaMoEException>(() => StreamTrainer.RollBack(description, _folder["broken"], 4));
    }

    [Theory]
    [DeviceData]
    public void Run_FolderOfAnotherDescription_IsRefused(string device)
    {
        StreamDescription description = Describe(windows: 3);
        StreamTrainer.Run(description, new() { Device = device, Folder = _folder["run"], Until = 1 });
        CudaMoEException error = Assert.Throws<CudaMoEException>(
            () => StreamTrainer.Run(description with { Training = description.Training with { Seed = 7 } }, new() { Device = device, Folder = _folder["run"] }));
        Assert.Contains("holds the windows of another description", error.Message, StringComparison.Ordinal);
    }

    /// <summary>A window without events trains nothing and leaves the weights; the test on one is none; one user has nobody to be told apart from.</summary>
    [Theory]
    [DeviceData]
    public void Run_EmptyWindowAndSingleUser_AreDefined(string device)
    {
        List<string> lines = ["user_id,item_id,time"];
        for (int i = 0; i < 30; i++)
        {
            string user = i < 10 ? $"u{i % 2}" : i < 20 ? $"lonely{i}" : "single";
            lines.Add(string.Create(CultureInfo.InvariantCulture, $"{user},i{i % 9},{i}"));
        }

        File.WriteAllLines(_folder["log.csv"], lines);
        StreamDescription description = Describe(windows: 3);
        description = description with { Data = description.Data with { Log = [_folder["log.csv"]], UserCore = 2 }, Growth = new() { Expand = false } };
        StreamResult result = StreamTrainer.Run(description, new() { Device = device, Folder = _folder["run"] });

        Assert.Null(result.Windows[0].Test);
        Assert.Equal((0, 0, 0), (result.Windows[1].TrainSequences, result.Windows[1].Epochs, result.Windows[1].BestEpoch));
        Assert.Null(result.Windows[1].Validation);
        Assert.Equal(1, result.Windows[1].Test!.Sequences);
        string[] checkpoints = [.. new CheckpointStore(_folder["run/windows"]).List()];
        Dictionary<string, float[]> first = Weights(checkpoints[0]);
        Assert.All(Weights(checkpoints[1]), entry => Assert.Equal(first[entry.Key], entry.Value));

        StreamDescription single = description with { Data = description.Data with { Windows = 2, Log = [WriteLog("single.csv", users: 1)] } };
        StreamResult alone = StreamTrainer.Run(single, new() { Device = device, Folder = _folder["single"] });
        Assert.Equal(1, alone.Windows[0].TrainSequences);
        Assert.Equal(0, alone.Windows[0].Loss, 6);
    }

    /// <summary>The counters of the published code also run in evaluation, so an item counts once more for each pass.</summary>
    [Theory]
    [DeviceData]
    public void Run_UtilizationOfEverything_CountsMore(string device)
    {
        StreamDescription description = Describe(windows: 2);
        StreamTrainer.Run(description, new() { Device = device, Folder = _folder["a"] });
        StreamTrainer.Run(description with { Growth = description.Growth with { Utilization = UtilizationPasses.Everything } }, new() { Device = device, Folder = _folder["b"] });
        IReadOnlyList<double> training = Utilization("a"), everything = Utilization("b");
        Assert.Equal(2, training.Count);
        Assert.All(training.Zip(everything), pair => Assert.True(pair.Second > pair.First && pair.First > 0));

        IReadOnlyList<double> Utilization(string run) => CheckpointFolder.Open(new CheckpointStore(_folder[$"{run}/windows"]).List()[0]).State.Running["text.layers.0.utilization"];
    }

    [Theory]
    [DeviceData]
    public void Run_FileOfTooFewLayers_IsRefused(string device)
    {
        StateFile.Write(_folder["states"], ["i1"], new SyntheticStates(2, 4, 2, 1));
        StreamDescription description = Describe(windows: 2);
        description = description with { Modalities = [new() { Name = "image", Source = StateSource.File, File = _folder["states"] }] };
        DescriptionException error = Assert.Throws<DescriptionException>(() => StreamTrainer.Run(description, new() { Device = device, Folder = _folder["run"] }));
        Assert.Contains("has states of 2 layers, 0 to 1; model.layers asks for 2", error.Message, StringComparison.Ordinal);
    }

    private static Dictionary<string, float[]> Weights(string checkpoint)
    {
        using SafetensorsReader reader = CheckpointFolder.Open(checkpoint).OpenWeights();
        return reader.Header.Tensors.ToDictionary(entry => entry.Name, entry =>
        {
            float[] values = new float[entry.Count];
            reader.ReadSingles(entry.Name, values);
            return values;
        });
    }

    private void AssertSame(StreamResult expected, StreamResult actual, string expectedRun, string actualRun)
    {
        Assert.Equal(expected.Mean, actual.Mean);
        Assert.Equal(expected.Retained, actual.Retained);
        Assert.Equal(expected.Windows.Select(window => (window.Loss, window.Test, window.Validation, window.BestEpoch)), actual.Windows.Select(window => (window.Loss, window.Test, window.Validation, window.BestEpoch)));
        IReadOnlyList<string> first = new CheckpointStore(_folder[$"{expectedRun}/windows"]).List(), second = new CheckpointStore(_folder[$"{actualRun}/windows"]).List();
        Assert.Equal(first.Select(Path.GetFileName), second.Select(Path.GetFileName));
        foreach ((string a, string b) in first.Zip(second))
        {
            Assert.Equal(CheckpointFolder.Open(a).Files[CheckpointFolder.WeightsFile], CheckpointFolder.Open(b).Files[CheckpointFolder.WeightsFile]);
            Assert.Equal(CheckpointFolder.Open(a).Files[CheckpointFolder.StateFile], CheckpointFolder.Open(b).Files[CheckpointFolder.StateFile]);
        }
    }

    private string WriteLog(string name, int users)
    {
        Random random = new(5);
        List<string> lines = ["user_id,item_id,time"];
        for (int i = 0; i < 60 * users; i++)
            lines.Add(string.Create(CultureInfo.InvariantCulture, $"u{random.Next(users)},i{random.Next(25)},{i}"));
        File.WriteAllLines(_folder[name], lines);
        return _folder[name];
    }

    private StreamDescription Describe(int windows) => new()
    {
        Name = "test",
        Data = new() { Log = [WriteLog("events.csv", users: 5)], Windows = windows, UserCore = 2, ValidationFraction = 0.3 },
        Modalities =
        [
            new() { Name = "image", Source = StateSource.Synthetic, Layers = 2, Width = 6, Factors = 3 },
            new() { Name = "text", Source = StateSource.Synthetic, Layers = 2, Width = 9, Factors = 4, Seed = 2 },
        ],
        Model = new() { Layers = [1, 2], Adapter = 3, Hidden = 8, Heads = 2, Blocks = 1, FeedForward = 12, History = 4, Dropout = 0.1f },
        Growth = new() { PruneThreshold = 0.01 },
        Training = new() { BatchSize = 4, Epochs = 4, QuietEpochs = 1, Patience = 2, LearningRate = 0.01f },
    };

    private sealed class Recorder : IStreamObserver
    {
        public int Windows { get; private set; }

        public int Epochs { get; private set; }

        public CancellationTokenSource? Cancel { get; init; }

        public int CancelAtEpoch { get; init; }

        public void OnStarted(InteractionStream stream, int done)
        {
        }

        public void OnEpoch(int window, int epoch, double loss, double? ndcg)
        {
            if (++Epochs == CancelAtEpoch)
                Cancel?.Cancel();
        }

        public void OnWindow(StreamWindowResult result) => Windows++;
    }
}
