using System.Globalization;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Streaming;
using CudaMoE.Streaming.Xsmoe;
using CudaMoE.Tests.Support;
using CudaMoE.Training;

namespace CudaMoE.Tests.Training;

/// <summary>Input that is strange but allowed: each case trains and tests, and gives finite weights and stated metrics.</summary>
public sealed class OddInputTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static TheoryData<BalancerType> Balancers { get; } = [.. Enum.GetValues<BalancerType>()];

    public void Dispose() => _folder.Dispose();

    /// <summary>All labels of one task are 1, those of another one of two classes.</summary>
    [Theory]
    [MemberData(nameof(Balancers))]
    public void Train_TasksWithOneClass_AreTrainedAndHaveNoAuc(BalancerType balancer)
    {
        Write(row => $"u{row % 7},{row % 2},1,only");
        TrainingResult result = Train(
            balancer,
            new() { Type = ModelType.Mmoe, Experts = new() { Count = 3, Layers = [5] }, Tower = [4] },
            new() { Name = "click", Type = TaskType.Binary, Column = "a" },
            new() { Name = "always", Type = TaskType.Binary, Column = "b" },
            new() { Name = "kind", Type = TaskType.Multiclass, Column = "c", Classes = ["only", "other"] });
        MetricValue auc = Metric(result, "always", "auc");
        Assert.Equal((null, "all labels are of one class"), (auc.Value, auc.Undefined));
        Assert.True(Metric(result, "always", "log_loss").Value < Math.Log(2));
        Assert.Equal(1, Metric(result, "kind", "accuracy").Value);
        Assert.True(double.IsFinite(Metric(result, "click", "auc").Value!.Value));
    }

    /// <summary>Six tasks on two columns of labels, of which every row has at most one: batches lack whole tasks.</summary>
    [Theory]
    [MemberData(nameof(Balancers))]
    public void Train_MoreTasksThanLabels_TrainsEachOnTheRowsThatItHas(BalancerType balancer)
    {
        Write(row => string.Create(CultureInfo.InvariantCulture, $"u{row % 7},{(row % 3 == 0 ? $"{row % 2}" : "")},{(row % 9 == 1 ? $"{row / 9 % 2}" : "")},x"));
        TrainingResult result = Train(
            balancer,
            new() { Type = ModelType.Ple, Experts = new() { Shared = 1, Levels = [[4]] } },
            [.. Enumerable.Range(0, 6).Select(i => new TaskDescription { Name = $"t{i}", Type = i == 5 ? TaskType.Regression : TaskType.Binary, Column = i % 2 == 0 ? "a" : "b" })]);
        Assert.Equal([30, 10, 30, 10, 30, 10], result.Test.Select(task => (int)task.Rows));
        foreach (TaskMetrics task in result.Test)
            Assert.True(double.IsFinite(task.Metrics.Single(metric => metric.Name == (task.Task == "t5" ? "rmse" : "auc")).Value!.Value));
    }

    /// <summary>The only expert always has the weight 1: its router learns nothing and its balance loss has no gradient.</summary>
    [Theory]
    [InlineData(ModelType.Mmoe, null)]
    [InlineData(ModelType.Mmoe, 1)]
    [InlineData(ModelType.MlMmoe, null)]
    [InlineData(ModelType.Grec, 1)]
    public void Train_RouterWithOneExpert_KeepsItsRouter(ModelType type, int? topK)
    {
        Write(row => $"u{row % 7},{row % 2},{row / 2 % 2},x");
        TrainingResult result = Train(
            BalancerType.MultiBalance,
            new()
            {
                Type = type,
                Experts = type == ModelType.MlMmoe ? new() { Count = 1, Levels = [[5]] } : new() { Count = 1, Layers = [5] },
                Grec = type == ModelType.Grec ? new() { Width = 4 } : null,
                Gate = topK == null ? new() : new() { TopK = topK, BalanceLoss = 0.1f },
            },
            new() { Name = "a", Type = TaskType.Binary },
            new() { Name = "b", Type = TaskType.Binary });
        using CudaMoE.Checkpoints.SafetensorsReader weights = CudaMoE.Checkpoints.SafetensorsReader.Open(CudaMoE.Checkpoints.CheckpointFolder.Open(result.CheckpointPath!).WeightsPath);
        string gate = type == ModelType.MlMmoe ? "levels.0.gate.weight" : "gate.weight";
        Assert.Equal(InitialGate(result, gate), Read(weights, gate));
        Assert.All(weights.Header.Tensors, tensor => Assert.All(Read(weights, tensor.Name), value => Assert.True(float.IsFinite(value))));
    }

    /// <summary>Items that the source of states does not know have states of zeros, as padding has.</summary>
    [Fact]
    public void States_OfItemsWithoutTextOrPicture_AreZeros()
    {
        StateFile.Write(_folder["states"], ["known"], new SyntheticStates(3, 4, 2, 1));
        using StateFile file = StateFile.Open(_folder["states"]);
        FrozenStates states = new("image", file, [1, 2], ["", "unknown", "known"]);
        float[] gathered = new float[3 * 3 * 4];
        states.Gather([0, 1, 2], gathered);
        for (int layer = 0; layer < 3; layer++)
        {
            Assert.All(gathered[(layer * 12)..((layer * 12) + 8)], value => Assert.Equal(0, value));
            Assert.Contains(gathered[((layer * 12) + 8)..((layer * 12) + 12)], value => value != 0);
        }
    }

    private static MetricValue Metric(TrainingResult result, string task, string name) => result.Test.Single(each => each.Task == task).Metrics.Single(metric => metric.Name == name);

    private static float[] Read(CudaMoE.Checkpoints.SafetensorsReader file, string tensor)
    {
        float[] values = new float[file.Header[tensor].Count];
        file.ReadSingles(tensor, values);
        return values;
    }

    private float[] InitialGate(TrainingResult result, string gate)
    {
        ModelDescription description = DescriptionJson.Load(Path.Combine(result.RunFolder, "model.json"));
        using Dataset data = Dataset.Open(description, _folder.Root);
        using CudaMoE.Tensors.Device device = CudaMoE.Tensors.Device.Open(TestDevices.Default);
        using CudaMoE.Models.MultiTaskModel fresh = new(device, description, data.Layout, [1, 1], 8, training: false);
        return TestDevices.Read(fresh, fresh.Parameters.Single(parameter => parameter.Name == gate));
    }

    private void Write(Func<int, string> row)
    {
        foreach (string name in new[] { "train.csv", "test.csv" })
            File.WriteAllLines(_folder[name], ["user,a,b,c", .. Enumerable.Range(0, 90).Select(row)]);
    }

    private TrainingResult Train(BalancerType balancer, ArchitectureDescription architecture, params TaskDescription[] tasks)
    {
        ModelDescription description = new()
        {
            Name = "odd",
            Data = new() { Train = ["train.csv"], Test = ["test.csv"] },
            Features = [new() { Name = "user", Type = FeatureType.Categorical, Dimension = 3 }],
            Tasks = tasks,
            Architecture = architecture,
            Training = new() { BatchSize = 4, Epochs = 2, Seed = 5, Optimizer = new() { LearningRate = 0.05f }, Balancer = new() { Type = balancer } },
        };
        TrainingResult result = Trainer.Train(description, _folder.Root, TrainingFixture.Options(_folder.Root, TestDevices.Default));
        Assert.Equal(RunStatus.Completed, result.Status);
        return result;
    }
}
