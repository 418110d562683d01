using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Models;
using CudaMoE.Tests.Support;
using CudaMoE.Training;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Training;

/// <summary>Training of the fusion family: balanced at both places, without managed memory, to the same bits after a break and with any number of threads.</summary>
public sealed class FusionTrainingTests(ITestOutputHelper output)
{
    private static readonly float[] Weights = [0.7f, 1.9f, 0.2f];

    private static readonly string[] Names = ["adatt", "adatt shared", "ml_mmoe", "ple", "cgc", "cross_stitch"];

    public static TheoryData<string> Types { get; } = [.. Names];

    // Gradients of shared parameters have tests of their own.
    private static readonly RepresentationPlace[] Representations = [RepresentationPlace.TowerInput, RepresentationPlace.TrunkInput];

    public static TheoryData<string, RepresentationPlace> Places
    {
        get
        {
            TheoryData<string, RepresentationPlace> places = [];
            foreach (string name in Names)
            {
                foreach (RepresentationPlace place in Representations)
                    places.Add(name, place);
            }

            return places;
        }
    }

    [Theory]
    [MemberData(nameof(Places))]
    public void Run_SteadyState_AllocatesNoManagedMemory(string type, RepresentationPlace place)
    {
        using Device device = Device.Open(TestDevices.Default);
        using MultiTaskModel model = Model(device, type, place);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 40, new Random(1));
        BalancedModel.CheckNoManagedMemory(model, batch, TestDevices.Default);
    }

    [Theory]
    [DeviceMemberData(nameof(Places))]
    public void Gram_EveryPlace_MatchesGradientsOfSingleTasks(string deviceName, string type, RepresentationPlace place)
    {
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = Model(device, type, place);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 40, new Random(2));
        double[] gram = new double[9];
        BackwardTowers(model, batch);
        model.ComputeGram(gram);
        double[][] gradients = [.. Enumerable.Range(0, 3).Select(t => TaskGradient(model, batch, t, place))];
        for (int i = 0; i < 9; i++)
        {
            double expected = gradients[i / 3].Zip(gradients[i % 3], (a, b) => a * b).Sum();
            double scale = Math.Sqrt(gradients[i / 3].Sum(v => v * v) * gradients[i % 3].Sum(v => v * v));
            Assert.True(scale > 0);
            Assert.Equal(expected, gram[i], 1e-5 * scale);
        }
    }

    [Theory]
    [DeviceMemberData(nameof(Places))]
    public void BackwardTrunk_Weights_ScaleEachTasksPartOfTheFeatureGradient(string deviceName, string type, RepresentationPlace place)
    {
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = Model(device, type, place);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 40, new Random(3));
        double[][] parts = [.. Enumerable.Range(0, 3).Select(t => FeatureGradient(model, batch, [.. Enumerable.Range(0, 3).Select(i => i == t ? 1f : 0f)]))];
        double[] combined = FeatureGradient(model, batch, Weights);
        for (int i = 0; i < combined.Length; i++)
            Assert.Equal(parts.Select((p, t) => p[i] * Weights[t]).Sum(), combined[i], 1e-6);
    }

    /// <summary>At the trunk's input the trunk's parameters get the plain sum of the tasks' gradients, or the weighted one with scaled heads.</summary>
    [Theory]
    [DeviceData("adatt shared", HeadGradient.Own)]
    [DeviceData("adatt shared", HeadGradient.Scaled)]
    [DeviceData("ple", HeadGradient.Scaled)]
    [DeviceData("cross_stitch", HeadGradient.Own)]
    public void BackwardTrunk_AtTheTrunksInput_TreatsParametersAsHeadsSays(string deviceName, string type, HeadGradient heads)
    {
        using Device device = Device.Open(deviceName);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 40, new Random(6));
        // At the towers' inputs every task's part is weighted, parameters too.
        using MultiTaskModel atTowers = Model(device, type, RepresentationPlace.TowerInput);
        using MultiTaskModel atTrunk = Model(device, type, RepresentationPlace.TrunkInput, heads);
        BackwardTowers(atTowers, batch);
        atTowers.BackwardTrunk(heads == HeadGradient.Scaled ? Weights : [1, 1, 1], gramIsFresh: false);
        BackwardTowers(atTrunk, batch);
        atTrunk.ComputeGram(new double[9]);
        atTrunk.BackwardTrunk(Weights, gramIsFresh: true);
        foreach ((Parameter expected, Parameter actual) in atTowers.Parameters.Zip(atTrunk.Parameters).Where(p => p.First.Name.StartsWith("levels.", StringComparison.Ordinal)))
        {
            float[] values = TestDevices.Read(atTrunk, actual.Gradient, actual.Count);
            Assert.Contains(values, v => v != 0);
            foreach ((float e, float a) in TestDevices.Read(atTowers, expected.Gradient, expected.Count).Zip(values))
                Assert.Equal(e, a, 1e-6);
        }
    }

    /// <summary>With one task both places give the plain gradient.</summary>
    [Theory]
    [DeviceData("mmoe")]
    [DeviceData("adatt")]
    [DeviceData("ple")]
    public void BackwardTrunk_OneTask_IsTheSameAtEveryPlace(string deviceName, string type)
    {
        IReadOnlyList<TaskDescription> task = [TestModels.BinaryTasks[0]];
        BatchLayout layout = TestModels.Layout with { Tasks = 1 };
        using Device device = Device.Open(deviceName);
        using Batch batch = TestModels.RandomBatch(layout, task, 40, new Random(5));
        double[][] gradients = [.. Enum.GetValues<RepresentationPlace>().Select(place =>
        {
            TrainingDescription training = new() { Seed = 9, Balancer = new() { Type = BalancerType.MultiBalance, Place = place } };
            using MultiTaskModel model = new(device, TestModels.Describe(Architecture(type), task, training), layout, [1], 40, training: true);
            BackwardTowers(model, batch);
            model.ComputeGram(new double[1]);
            model.BackwardTrunk([1], gramIsFresh: true);
            return BalancedModel.Values(model, model.TrunkInputGradients);
        })];
        Assert.Contains(gradients[0], v => v != 0);
        for (int i = 0; i < gradients[0].Length; i++)
            Assert.Equal(gradients[0][i], gradients[1][i], 1e-7);
    }

    [Theory]
    [DeviceMemberData(nameof(Types))]
    public void Resume_AfterCancellation_EndsWithTheBitsOfAnUnbrokenRun(string device, string type)
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root, rows: device == TestDevices.Simt ? 100 : 600);
        ModelDescription description = Describe(type, TrainingFixture.Training(device, BalancerType.MultiBalance) with { BatchSize = 40 });
        TrainingFixture.CheckResume(description, folder.Root, device, output);
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void Train_AnyNumberOfThreads_GivesTheSameBits(string type)
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root, rows: 900);
        ModelDescription description = Describe(type, TrainingFixture.Training(TestDevices.Cpu, BalancerType.Mgda) with { Epochs = 1, BatchSize = 333 });
        byte[][] weights = [.. new[] { 1, 2, 5 }.Select(threads =>
            TrainingFixture.LatestWeights(Trainer.Train(description, folder.Root, TrainingFixture.Options(folder.Root, $"cpu:threads={threads}")).RunFolder))];
        Assert.Equal(weights[0], weights[1]);
        Assert.Equal(weights[0], weights[2]);
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void Train_LearnablePattern_IsLearned(string type)
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root);
        TrainingResult result = Trainer.Train(Describe(type, TrainingFixture.Training(TestDevices.Default) with { BatchSize = 64, Epochs = 12 }), folder.Root, TrainingFixture.Options(folder.Root, TestDevices.Default));
        double auc = result.Test.Single(t => t.Task == "click").Metrics.Single(m => m.Name == "auc").Value ?? 0;
        Assert.True(auc > 0.95, $"click AUC {auc}");
    }

    private static ArchitectureDescription Architecture(string type)
    {
        IReadOnlyList<IReadOnlyList<int>> levels = [[8], [6]];
        ArchitectureDescription frame = new() { Type = ModelType.Adatt, Projection = 12, Tower = [4], Activation = ActivationKind.Tanh };
        return type switch
        {
            "adatt" => frame with { Experts = new() { Levels = levels, PerTask = 2 } },
            "adatt shared" => frame with { Experts = new() { Levels = levels, PerTask = 2, Shared = 1 } },
            "mmoe" => frame with { Type = ModelType.Mmoe, Experts = new() { Count = 4, Layers = [8] } },
            "ml_mmoe" => frame with { Type = ModelType.MlMmoe, Experts = new() { Levels = levels, Count = 4 } },
            "ple" => frame with { Type = ModelType.Ple, Experts = new() { Levels = levels, PerTask = 1, Shared = 2 } },
            "cgc" => frame with { Type = ModelType.Cgc, Experts = new() { Layers = [8, 6], PerTask = 1, Shared = 2 } },
            _ => frame with { Type = ModelType.CrossStitch, Experts = new() { Levels = levels } },
        };
    }

    private static ModelDescription Describe(string type, TrainingDescription training) =>
        TrainingFixture.Describe(training) with { Architecture = Architecture(type) };

    private static MultiTaskModel Model(Device device, string type, RepresentationPlace place, HeadGradient heads = HeadGradient.Own)
    {
        TrainingDescription training = new() { Seed = 9, Balancer = new() { Type = BalancerType.MultiBalance, Place = place, Heads = heads } };
        return new(device, TestModels.Describe(Architecture(type), TestModels.BinaryTasks, training), TestModels.Layout, [1, 1, 1], 40, training: true);
    }

    private static void BackwardTowers(MultiTaskModel model, Batch batch)
    {
        model.Forward(batch);
        model.ComputeLosses();
        model.BackwardTowers();
    }

    /// <summary>The gradient of one task's loss at the place, flattened.</summary>
    private static double[] TaskGradient(MultiTaskModel model, Batch batch, int task, RepresentationPlace place)
    {
        BackwardTowers(model, batch);
        if (place == RepresentationPlace.TowerInput)
        {
            Tensor all = model.RepresentationGradients;
            return BalancedModel.Values(model, all.Slice(task * all.Columns / 3, all.Columns / 3));
        }

        float[] weights = new float[3];
        weights[task] = 1;
        model.BackwardTrunk(weights, gramIsFresh: false);
        return BalancedModel.Values(model, model.TrunkInputGradients);
    }

    private static double[] FeatureGradient(MultiTaskModel model, Batch batch, float[] weights)
    {
        BackwardTowers(model, batch);
        model.ComputeGram(new double[9]);
        model.BackwardTrunk(weights, gramIsFresh: true);
        // The columns behind the tables belong to dense features, whose gradient nobody needs.
        return BalancedModel.Values(model, model.FeatureGradients!.Value.Slice(0, TestModels.Layout.Sparse.Sum(s => s.Dimension)));
    }
}
