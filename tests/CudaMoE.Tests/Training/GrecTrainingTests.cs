using CudaMoE.Balancing;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Models;
using CudaMoE.Tests.Support;
using CudaMoE.Training;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Training;

/// <summary>Training of grec models: with every balancer that looks at the Gram matrix, without managed memory, to the same bits after a break.</summary>
public sealed class GrecTrainingTests(ITestOutputHelper output)
{
    public static TheoryData<RoutingLevel> Levels { get; } = [.. Enum.GetValues<RoutingLevel>()];

    public static TheoryData<BalancerType> GramBalancers { get; } =
        [.. Enum.GetValues<BalancerType>().Where(type => BalancerFacts.Of(type) is { UsesGradients: true } facts && facts.Family != BalancerFamily.Columns)];

    [Theory]
    [MemberData(nameof(Levels))]
    public void Run_SteadyState_AllocatesNoManagedMemory(RoutingLevel level)
    {
        ModelDescription description = GrecModels.All["task sentence"];
        description = description with { Architecture = description.Architecture with { Grec = description.Architecture.Grec! with { Routing = level, TokenCapacity = 2 } } };
        using Device device = Device.Open(TestDevices.Default);
        using MultiTaskModel model = new(device, description, GrecModels.LayoutOf(description), TestModels.Outputs(description.Tasks), 20, training: true);
        using Batch batch = TestModels.RandomBatch(model.Layout, description.Tasks, 20, new Random(1));
        BalancedModel.CheckNoManagedMemory(model, batch, TestDevices.Default);
    }

    [Theory]
    [MemberData(nameof(GramBalancers))]
    public void Run_EveryGramBalancer_TrainsAtEveryPlace(BalancerType type)
    {
        foreach (RepresentationPlace place in Enum.GetValues<RepresentationPlace>())
        {
            ModelDescription description = GrecModels.All["task sentence pooled"];
            description = description with { Training = description.Training with { Balancer = new() { Type = type, Place = place } } };
            using Device device = Device.Open(TestDevices.Default);
            using MultiTaskModel model = new(device, description, GrecModels.LayoutOf(description), TestModels.Outputs(description.Tasks), 30, training: true);
            using Batch batch = TestModels.RandomBatch(model.Layout, description.Tasks, 30, new Random(4));
            int steps = TestDevices.Default == TestDevices.Simt ? 6 : 30;
            TrainingStep step = new(model, steps);
            double first = 0, last = 0;
            for (int i = 1; i <= steps; i++)
            {
                step.Run(batch, i);
                step.Finish();
                last = model.Losses.ToArray().Sum();
                first = i == 1 ? last : first;
            }

            Assert.True(last < first, $"{type} at {place}: {first} to {last}");
        }
    }

    [Theory]
    [DeviceData(RoutingLevel.TaskSentence)]
    [DeviceData(RoutingLevel.Sentence)]
    public void Resume_AfterCancellation_EndsWithTheBitsOfAnUnbrokenRun(string device, RoutingLevel level)
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root, rows: device == TestDevices.Simt ? 100 : 600);
        ModelDescription description = Describe(level, TrainingFixture.Training(device, BalancerType.MultiBalance) with { BatchSize = 40 });
        TrainingFixture.CheckResume(description, folder.Root, device, output);
    }

    [Fact]
    public void Train_LearnablePattern_IsLearned()
    {
        using TemporaryFolder folder = new();
        TrainingFixture.WriteData(folder.Root);
        TrainingResult result = Trainer.Train(Describe(RoutingLevel.TaskSentence, TrainingFixture.Training(TestDevices.Default) with { BatchSize = 64, Epochs = 12 }), folder.Root, TrainingFixture.Options(folder.Root, TestDevices.Default));
        double auc = result.Test.Single(t => t.Task == "click").Metrics.Single(m => m.Name == "auc").Value ?? 0;
        Assert.True(auc > 0.95, $"click AUC {auc}");
    }

    private static ModelDescription Describe(RoutingLevel level, TrainingDescription training)
    {
        ModelDescription small = TrainingFixture.Describe(training);
        return small with
        {
            Features =
            [
                .. small.Features,
                new() { Name = "history", Column = "tags", Type = FeatureType.Sequence, Dimension = 6, MaxLength = 3 },
            ],
            Architecture = new()
            {
                Type = ModelType.Grec,
                Grec = new() { Width = 8, Blocks = 1, FeedForward = 12, Current = ["user"], Routing = level },
                Experts = new() { Count = 3, Layers = [8] },
                Gate = new() { TopK = 1, BalanceLoss = 0.01f, ZLoss = 0.001f },
                Tower = [6],
                Activation = ActivationKind.LeakyRelu,
                ActivationSlope = 0.2f,
            },
        };
    }
}
