using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Models;
using CudaMoE.Tests.Support;
using CudaMoE.Training;

namespace CudaMoE.Tests.Training;

/// <summary>Training steps whose parts run from captures, on devices that have memory of their own.</summary>
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

    private static readonly Dictionary<string, (ArchitectureDescription Architecture, BalancerDescription Balancer, float? Clip)> Models = new()
    {
        ["mmoe"] = (Mmoe, new(), null),
        ["mmoe, top 2, clipped"] = (Mmoe with { Gate = new() { TopK = 2, BalanceLoss = 0.01f } }, new(), 1),
        ["mmoe, noisy"] = (Mmoe with { Gate = new() { TopK = 2, Score = ScoreMode.Noisy } }, new(), null),
        ["mmoe, multi_balance"] = (Mmoe, new() { Type = BalancerType.MultiBalance }, null),
        ["mmoe, mgda on the trunk's input"] = (Mmoe, new() { Type = BalancerType.Mgda, Place = RepresentationPlace.TrunkInput }, null),
        ["mmoe, mgda on shared parameters now and then"] = (Mmoe, new() { Type = BalancerType.Mgda, Place = RepresentationPlace.SharedParameters, Every = 2 }, null),
        ["shared bottom, mgda now and then"] = (
            new() { Type = ModelType.SharedBottom, Bottom = [7], Tower = [4] }, new() { Type = BalancerType.Mgda, Every = 3 }, null),
        ["adatt"] = (
            new() { Type = ModelType.Adatt, Projection = 8, Experts = new() { Levels = [[6], [5]] }, Tower = [4] }, new() { Type = BalancerType.MultiBalance }, null),
    };

    public static TheoryData<string, string> Cases { get; } = AllCases();

    [Theory]
    [MemberData(nameof(Cases))]
    public void Run_FromCaptures_LeavesTheBitsOfCalls(string device, string name)
    {
        // Sizes that come once, twice and often; the last of each run of equal ones is followed by another size, as at the end of an epoch.
        int[] sizes = [12, 12, 12, 12, 9, 12, 12, 12, 9, 9, 1, 12];
        (float[] Parameters, double[] Losses) called = Train(captured: false), captured = Train(captured: true);
        Assert.Equal(called.Losses, captured.Losses);
        Assert.Equal(called.Parameters, captured.Parameters);

        (float[] Parameters, double[] Losses) Train(bool captured)
        {
            using Device opened = Device.Open(device);
            (ArchitectureDescription architecture, BalancerDescription balancer, float? clip) = Models[name];
            ModelDescription description = TestModels.Describe(architecture, TestModels.BinaryTasks, new() { Seed = 5, Balancer = balancer, ClipNorm = clip });
            description = description with { Features = [.. description.Features.Where(feature => feature.Type != FeatureType.MultiHot)] };
            using MultiTaskModel model = new(opened, description, OneHot, [1, 1, 1], 12, training: true);
            Assert.Equal(name != "mmoe, noisy", model.CapturesSteps);
            model.CapturesSteps &= captured;
            TrainingStep step = new(model, sizes.Length);
            Random random = new(7);
            for (int i = 0; i < sizes.Length; i++)
            {
                using Batch batch = TestModels.RandomBatch(OneHot, TestModels.BinaryTasks, sizes[i], random);
                step.Run(batch, i + 1);
            }

            step.Finish();
            return ([.. model.Parameters.SelectMany(parameter => TestDevices.Read(model, parameter))], [.. step.Totals.Sums, .. step.Losses, .. step.Weights]);
        }
    }

    private static TheoryData<string, string> AllCases()
    {
        TheoryData<string, string> cases = [];
        foreach (string device in TestDevices.All.Select<object[], string>(row => (string)row[0]).Where(device => device != TestDevices.Cpu))
        {
            foreach (string name in Models.Keys)
                cases.Add(device, name);
        }

        return cases;
    }
}
