using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Export;
using CudaMoE.Tests.Support;
using CudaMoE.Training;

namespace CudaMoE.Tests.Export;

/// <summary>What cannot be exported is refused with the reason, and leaves what is there as it is.</summary>
public sealed class ExportErrorTests : IDisposable
{
    private static readonly ArchitectureDescription Architecture = new() { Type = ModelType.SharedBottom, Bottom = [6] };

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(ModelType.Grec, "transformer")]
    [InlineData(ModelType.Mgoe, "graph")]
    public void Export_ModelsBeyondTheOperators_AreRefused(ModelType type, string reason)
    {
        using ExportScenario scenario = new(_folder, Architecture, ExportRows.Binary, new(1));
        using SafetensorsReader weights = SafetensorsReader.Open(scenario.WeightsPath);
        ModelDescription other = scenario.Description with { Architecture = Architecture with { Type = type } };

        ExportException error = Assert.Throws<ExportException>(
            () => OnnxExporter.Export(other, scenario.Encoders, weights, 0, _folder["model.onnx"], new()));

        Assert.Contains($"architecture.type is {type.ToString().ToLowerInvariant()}", error.Message, StringComparison.Ordinal);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(_folder["model.onnx"]));
    }

    [Fact]
    public void Export_GatesOfAModelWithout_AreRefused()
    {
        using ExportScenario scenario = new(_folder, Architecture, ExportRows.Binary, new(2));

        Assert.Contains("no gates", Assert.Throws<ExportException>(() => scenario.Export(new() { Gates = true })).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("user.logit", "user")]
    [InlineData("click.conditional.logit", "click.conditional")]
    public void Export_ATaskWhoseOutputHasTheNameOfAFeature_IsRefused(string feature, string task)
    {
        FeatureDescription[] features = [.. ExportRows.Features.Select(f => f.Name == "change" ? f with { Name = feature, Column = "change" } : f)];
        ModelDescription description = new()
        {
            Name = "clash",
            Data = new() { Train = ["train.csv"], Format = new() { Missing = ExportRows.Missing } },
            Features = features,
            Tasks = [new() { Name = task, Column = "b0", Type = TaskType.Binary }],
            Architecture = Architecture,
            Training = new() { Epochs = 1 },
        };
        CheckpointFolder checkpoint = Train(description);

        ExportException error = Assert.Throws<ExportException>(() => OnnxExporter.Export(checkpoint, _folder["model.onnx"]));

        Assert.Contains($"two values called \"{feature}\"", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Export_WeightsThatAreNotTheModels_AreRefusedAndTheOldFileStays()
    {
        using ExportScenario scenario = new(_folder, Architecture, ExportRows.Binary, new(3));
        OnnxExportResult good = scenario.Export();
        byte[] before = File.ReadAllBytes(good.File);
        string[] files = [.. Directory.GetFiles(_folder.Root).Order()];
        (ArchitectureDescription Architecture, string Expected)[] others =
        [
            (Architecture with { Bottom = [6, 3] }, "has no tensor bottom.layers.1.weight"),
            (Architecture with { Bottom = [5] }, "tensor bottom.layers.0.weight is F32 [6, "),
            (Architecture with { Type = ModelType.SingleTask, Bottom = [] }, "tensor towers."),
            (Architecture with { LayerNorm = true }, "has no tensor norm.weight"),
        ];
        foreach ((ArchitectureDescription architecture, string expected) in others)
        {
            using SafetensorsReader weights = SafetensorsReader.Open(scenario.WeightsPath);
            CheckpointFormatException error = Assert.Throws<CheckpointFormatException>(() => OnnxExporter.Export(
                scenario.Description with { Architecture = architecture }, scenario.Encoders, weights, 0, good.File, new()));
            Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        }

        Assert.Equal(before, File.ReadAllBytes(good.File));
        Assert.Equal(files, Directory.GetFiles(_folder.Root).Order());
    }

    [Fact]
    public void Export_WeightsWithATensorTooMany_AreRefused()
    {
        using ExportScenario scenario = new(_folder, Architecture, ExportRows.Binary, new(4));
        SafetensorsWriter writer = new();
        ModelCheckpoint.AddWeights(scenario.Model, writer);
        writer.Add("extra.weight", TensorDataType.F32, [1], new float[1]);
        writer.Save(scenario.WeightsPath);

        Assert.Contains(
            "tensor extra.weight is not one of the model's",
            Assert.Throws<CheckpointFormatException>(() => scenario.Export()).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void Export_CheckpointWithoutEncoders_IsRefused()
    {
        using ExportScenario scenario = new(_folder, Architecture, ExportRows.Binary, new(5));
        CheckpointStore store = new(_folder["checkpoints"]);
        CheckpointFolder checkpoint = CheckpointFolder.Open(store.Save(ModelCheckpoint.Content(scenario.Model, encoders: null, new() { Step = 1, Epoch = 1, Batch = 0, Seed = 1 })));

        Assert.Contains(
            "no encoders", Assert.Throws<ExportException>(() => OnnxExporter.Export(checkpoint, _folder["model.onnx"])).Message, StringComparison.Ordinal);
    }

    private CheckpointFolder Train(ModelDescription description)
    {
        File.WriteAllText(_folder["train.csv"], ExportRows.Text(ExportRows.Random(new(6), 60, unseen: false)));
        TrainingResult result = Trainer.Train(description, _folder.Root, new() { Device = TestDevices.Default, RunsFolder = _folder["runs"] });
        return CheckpointFolder.Open(result.CheckpointPath!);
    }
}
