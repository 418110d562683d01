using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Models;
using CudaMoE.Tests.Support;
using CudaMoE.Training;

namespace CudaMoE.Tests.Training;

/// <summary>Training steps that run from captures, on devices that have memory of their own.</summary>
public sealed class CapturedStepTests
{
    private static readonly BatchLayout OneHot = TestModels.Layout with { Sparse = [.. TestModels.Layout.Sparse.Where(input => !input.MultiHot)] };

    private static readonly ArchitectureDescription Mmoe = new()
    {
        Type = ModelType.Mmoe,
        Projection = 8,
        LayerNorm = true,
        Experts = new() { Count = 3, Layers = [6] },
        Tower = [4],
    };

    private static readonly ArchitectureDescription Aitm = new() { Type = ModelType.SingleTask, Bottom = [6], Tower = [4], Transfer = new() };

    private static readonly ExpertsDescription TwoLevels = new() { Levels = [[6], [5]] };

    private static readonly TrainingDescription Plain = new() { Seed = 5 };

    /// <summary>Every number of an update changes from step to step.</summary>
    private static readonly TrainingDescription Scheduled = Plain with
    {
        Optimizer = new() { Type = OptimizerType.Adamw, LearningRate = 0.02f, WeightDecay = 0.1f },
        EmbeddingOptimizer = new() { Type = OptimizerType.RowwiseAdam, LearningRate = 0.03f, Epsilon = 1e-8f, WeightDecay = 0.05f },
        Schedule = new() { Type = ScheduleType.Cosine, WarmupSteps = 4, FinalFactor = 0.1 },
        ClipNorm = 0.5f,
    };

    private static readonly Dictionary<string, (ArchitectureDescription Architecture, TrainingDescription Training)> Models = new()
    {
        ["mmoe"] = (Mmoe, Plain),
        ["mmoe, scheduled"] = (Mmoe, Scheduled),
        ["mmoe, scheduled, multi-hot"] = (Mmoe, Scheduled),
        ["mmoe, multi-hot, mgda on shared parameters"] =
            (Mmoe, Scheduled with { Balancer = new() { Type = BalancerType.Mgda, Place = RepresentationPlace.SharedParameters } }),
        ["mmoe, scheduled, bf16 tables"] = (Mmoe with { EmbeddingPrecision = Precision.Bf16 }, Scheduled),
        ["mmoe, static weights, momentum, adagrad"] = (Mmoe, Scheduled with
        {
            Balancer = new() { Type = BalancerType.Static },
            Optimizer = new() { Type = OptimizerType.Sgd, LearningRate = 0.05f, Momentum = 0.9f },
            EmbeddingOptimizer = new() { Type = OptimizerType.Adagrad, LearningRate = 0.05f, Epsilon = 1e-8f },
            Schedule = new() { Type = ScheduleType.Exponential, DecaySteps = 3 },
        }),
        ["mmoe, adagrad, sgd"] = (Mmoe, Scheduled with
        {
            Optimizer = new() { Type = OptimizerType.Adagrad, LearningRate = 0.05f },
            EmbeddingOptimizer = new() { Type = OptimizerType.Sgd, LearningRate = 0.05f, WeightDecay = 0.05f },
        }),
        ["mmoe, top 2, clipped"] = (Mmoe with { Gate = new() { TopK = 2, BalanceLoss = 0.01f } }, Plain with { ClipNorm = 1 }),
        ["mmoe, noisy"] = (Mmoe with { Gate = new() { TopK = 2, Score = ScoreMode.Noisy } }, Plain),
        ["mmoe, noisy, multi_balance"] = (Mmoe with { Gate = new() { TopK = 2, Score = ScoreMode.Noisy } }, Scheduled with { Balancer = new() { Type = BalancerType.MultiBalance } }),
        ["mmoe, multi_balance"] = (Mmoe, Scheduled with { Balancer = new() { Type = BalancerType.MultiBalance } }),
        ["mmoe, uw"] = (Mmoe, Scheduled with { Balancer = new() { Type = BalancerType.Uw } }),
        ["mmoe, famo"] = (Mmoe, Scheduled with { Balancer = new() { Type = BalancerType.Famo } }),
        ["mmoe, grad_drop"] = (Mmoe, Scheduled with { Balancer = new() { Type = BalancerType.GradDrop } }),
        ["mmoe, observed"] = (Mmoe, Scheduled with { Balancer = new() { ObserveEvery = 3 } }),
        ["mmoe, mgda on the trunk's input"] = (Mmoe, Plain with { Balancer = new() { Type = BalancerType.Mgda, Place = RepresentationPlace.TrunkInput } }),
        ["mmoe, mgda on shared parameters"] =
            (Mmoe with { Gate = new() { TopK = 2, BalanceLoss = 0.01f } }, Scheduled with { Balancer = new() { Type = BalancerType.Mgda, Place = RepresentationPlace.SharedParameters } }),
        ["mmoe, modo on shared parameters"] =
            (Mmoe, Scheduled with { Balancer = new() { Type = BalancerType.Modo, Place = RepresentationPlace.SharedParameters } }),
        ["mmoe, moco on shared parameters"] =
            (Mmoe, Scheduled with { Balancer = new() { Type = BalancerType.Moco, Place = RepresentationPlace.SharedParameters } }),
        ["mmoe, mgda on shared parameters now and then"] =
            (Mmoe, Scheduled with { Balancer = new() { Type = BalancerType.Mgda, Place = RepresentationPlace.SharedParameters, Every = 2 } }),
        ["shared bottom, mgda now and then"] = (
            new() { Type = ModelType.SharedBottom, Bottom = [7], Tower = [4] }, Plain with { Balancer = new() { Type = BalancerType.Mgda, Every = 3 } }),
        ["single task"] = (Aitm with { Transfer = null }, Scheduled),
        ["aitm"] = (Aitm, Scheduled),
        ["ml_mmoe"] = (new() { Type = ModelType.MlMmoe, Experts = TwoLevels with { Count = 3 }, Tower = [4] }, Scheduled),
        ["cgc"] = (new() { Type = ModelType.Cgc, Experts = new() { Layers = [6], PerTask = 1, Shared = 1 }, Tower = [4] }, Scheduled),
        ["ple"] = (new() { Type = ModelType.Ple, Experts = TwoLevels with { Shared = 1 }, Tower = [4] }, Scheduled),
        ["adatt"] = (
            new() { Type = ModelType.Adatt, Projection = 8, Experts = TwoLevels, Tower = [4] }, Plain with { Balancer = new() { Type = BalancerType.MultiBalance } }),
        ["cross_stitch"] = (new() { Type = ModelType.CrossStitch, Experts = TwoLevels, Tower = [4] }, Scheduled),
        ["mgoe"] = (
            new()
            {
                Type = ModelType.Mgoe,
                Experts = new() { PerTask = 1, Shared = 1, Layers = [6] },
                Macro = new() { User = "user", Item = "item", UserNodes = 3, ItemNodes = 2 },
                Tower = [4],
            },
            Scheduled),
        ["stem"] = (new() { Type = ModelType.Stem, Experts = new() { PerTask = 1, Shared = 1, Layers = [6] }, Tower = [4] }, Scheduled),
    };

    public static TheoryData<string> Cases => [.. Models.Keys];

    [Theory]
    [DeviceMemberData(nameof(Cases))]
    public void Run_FromCaptures_LeavesTheBitsOfCalls(string device, string name)
    {
        // Sizes that come once, twice and often; the last of each run of equal ones is followed by another size, as at the end of an epoch.
        int[] sizes = [12, 12, 12, 12, 9, 12, 12, 12, 12, 12, 9, 9, 9, 1, 12];
        (float[] Parameters, double[] Losses, long Replays) called = Train(device, name, sizes, captured: false), captured = Train(device, name, sizes, captured: true);
        Assert.Equal(called.Losses, captured.Losses);
        Assert.Equal(called.Parameters, captured.Parameters);
        Assert.Equal(0, called.Replays);
        Assert.Equal(device == TestDevices.Cpu, captured.Replays == 0);
    }

    /// <summary>
    /// The first step of a size calls, the second is captured, each later one is so many calls of the device: two where the host looks at losses, three where it
    /// looks at gradients.
    /// </summary>
    [SimtTheory]
    [InlineData("mmoe", 1)]
    [InlineData("mmoe, scheduled", 1)]
    [InlineData("mmoe, scheduled, bf16 tables", 1)]
    [InlineData("mmoe, scheduled, multi-hot", 1)]
    [InlineData("mmoe, static weights, momentum, adagrad", 1)]
    [InlineData("aitm", 1)]
    [InlineData("stem", 1)]
    [InlineData("mgoe", 1)]
    [InlineData("mmoe, noisy", 1)]
    [InlineData("mmoe, noisy, multi_balance", 3)]
    [InlineData("mmoe, uw", 2)]
    [InlineData("mmoe, famo", 3)]
    [InlineData("mmoe, multi_balance", 3)]
    [InlineData("mmoe, grad_drop", 3)]
    [InlineData("mmoe, mgda on the trunk's input", 3)]
    public void Run_StepsOfOneSize_AreAFewReplays(string name, int replays)
    {
        const int steps = 7;
        Assert.Equal(replays * (steps - 2), Train(TestDevices.Simt, name, [.. Enumerable.Repeat(10, steps)], captured: true).Replays);
    }

    /// <summary>Between two evaluations of a balancer, and where no gradients are observed, a step is one replay.</summary>
    [SimtTheory]
    [InlineData("mmoe, observed")]
    [InlineData("shared bottom, mgda now and then")]
    public void Run_EveryThirdStepInParts_KeepsAllCaptures(string name)
    {
        // Three parts at 1, 4, 7, 10; whole at 2, 3, 5, 6, 8, 9: two of the former and four of the latter are replays.
        Assert.Equal((2 * 3) + 4, Train(TestDevices.Simt, name, [.. Enumerable.Repeat(10, 10)], captured: true).Replays);
    }

    /// <summary>Batches whose numbers of ids lie on both sides of a size of room, and larger and smaller ones in between.</summary>
    [SimtFact]
    public void Run_NumbersOfIdsThatVary_LeaveTheBitsOfCalls()
    {
        int[] sizes = [.. Enumerable.Range(0, 24).Select(i => i % 8 == 7 ? 40 + i : 150)];
        const string name = "mmoe, scheduled, multi-hot";
        (float[] Parameters, double[] Losses, long Replays) called = Train(TestDevices.Simt, name, sizes, captured: false), captured = Train(TestDevices.Simt, name, sizes, captured: true);
        Assert.Equal(called.Losses, captured.Losses);
        Assert.Equal(called.Parameters, captured.Parameters);
        Assert.InRange(captured.Replays, sizes.Length / 3, sizes.Length - 3);
    }

    public static TheoryData<string> GrecCases => [.. GrecModels.All.Keys];

    [SimtTheory]
    [MemberData(nameof(GrecCases))]
    public void Run_Grec_FromCaptures_LeavesTheBitsOfCalls(string name)
    {
        ModelDescription description = GrecModels.All[name];
        description = description with { Training = Scheduled };
        BatchLayout layout = GrecModels.LayoutOf(description);
        int[] sizes = [6, 6, 6, 4, 6, 6, 4, 4, 6];
        (float[] Parameters, double[] Losses, long Replays) called = Train(TestDevices.Simt, description, layout, sizes, captured: false);
        (float[] Parameters, double[] Losses, long Replays) captured = Train(TestDevices.Simt, description, layout, sizes, captured: true);
        Assert.Equal(called.Losses, captured.Losses);
        Assert.Equal(called.Parameters, captured.Parameters);
        Assert.Equal(sizes.Length - 4, captured.Replays);
    }

    private static (float[] Parameters, double[] Losses, long Replays) Train(string device, string name, int[] sizes, bool captured)
    {
        (ArchitectureDescription architecture, TrainingDescription training) = Models[name];
        ModelDescription description = TestModels.Describe(architecture, TestModels.BinaryTasks, training);
        bool multiHot = name.Contains("multi-hot");
        if (!multiHot)
            description = description with { Features = [.. description.Features.Where(feature => feature.Type != FeatureType.MultiHot)] };
        return Train(device, description, multiHot ? TestModels.Layout : OneHot, sizes, captured);
    }

    private static (float[] Parameters, double[] Losses, long Replays) Train(string device, ModelDescription description, BatchLayout layout, int[] sizes, bool captured)
    {
        using Device opened = Device.Open(device);
        using MultiTaskModel model = new(opened, description, layout, TestModels.Outputs(description.Tasks), sizes.Max(), training: true);
        Assert.Equal(!opened.Info.HostAccessible, model.CapturesSteps);
        model.CapturesSteps &= captured;
        TrainingStep step = new(model, sizes.Length);
        Random random = new(7);
        for (int i = 0; i < sizes.Length; i++)
        {
            using Batch batch = TestModels.RandomBatch(layout, description.Tasks, sizes[i], random);
            step.Run(batch, i + 1);
        }

        step.Finish();
        float[] parameters = [.. model.Parameters.SelectMany(parameter => TestDevices.Read(model, parameter))];
        return (parameters, [.. step.Totals.Sums, .. step.Losses, .. step.Weights, step.LearningRate, .. model.GateSums], model.Replays);
    }
}
