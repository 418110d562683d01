using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Models;

/// <summary>On a device with memory of its own bf16 models for inference mix two-layer experts in one operation, to the bits of training's layers.</summary>
public sealed class FusedMixtureTests(ITestOutputHelper output)
{
    private const int MaxRows = 200;

    private static readonly ArchitectureDescription Dense = new()
    {
        Type = ModelType.Mmoe,
        Experts = new() { Count = 5, Layers = [20, 9] },
        Tower = [4],
        Precision = Precision.Bf16,
    };

    private static Dictionary<string, ArchitectureDescription> Architectures => new()
    {
        ["dense"] = Dense,
        ["wider than a pass"] = Dense with { Experts = new() { Count = 3, Layers = [130, 70] } },
        ["shared gate, sigmoid, silu"] = Dense with { Activation = ActivationKind.Silu, Gate = new() { Sharing = GateSharing.Shared, Score = ScoreMode.Sigmoid, Renormalize = true } },
        ["top 2"] = Dense with { Gate = new() { TopK = 2, Renormalize = true } },
        ["top 1, noisy"] = Dense with { Gate = new() { TopK = 1, Score = ScoreMode.Noisy } },
        ["one row of tiles, leaky"] = Dense with { Activation = ActivationKind.LeakyRelu, ActivationSlope = 0.2f, Experts = new() { Count = 2, Layers = [64, 64] } },
        ["capacity"] = Dense with { Gate = new() { TopK = 2, CapacityFactor = 1 } },
        ["three layers"] = Dense with { Experts = new() { Count = 3, Layers = [8, 8, 8] } },
        ["f32"] = Dense with { Precision = Precision.F32 },
    };

    [Theory]
    [DeviceData("dense", true)]
    [DeviceData("wider than a pass", true)]
    [DeviceData("shared gate, sigmoid, silu", true)]
    [DeviceData("top 2", true)]
    [DeviceData("top 1, noisy", true)]
    [DeviceData("one row of tiles, leaky", true)]
    [DeviceData("capacity", false)]
    [DeviceData("three layers", false)]
    [DeviceData("f32", false)]
    public void Forward_Inference_GivesTheBitsOfTheTrainedModel(string spec, string name, bool mixes)
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        IReadOnlyList<TaskDescription> tasks = TestModels.BinaryTasks;
        ModelDescription description = TestModels.Describe(Architectures[name], tasks, new() { Seed = (ulong)(uint)seed });
        using Device device = Device.Open(spec);
        using MultiTaskModel trained = new(device, description, TestModels.Layout, [1, 1, 1], MaxRows, training: true);
        using MultiTaskModel serving = new(device, description, TestModels.Layout, [1, 1, 1], MaxRows, training: false);
        foreach ((Parameter from, Parameter to) in trained.Parameters.Zip(serving.Parameters))
        {
            Assert.Equal(from.Name, to.Name);
            Assert.Equal(from.Shape, to.Shape);
            TestDevices.Write(serving, to, TestDevices.Read(trained, from));
        }

        foreach (int rows in new[] { 1, 33, MaxRows })
        {
            using Batch batch = TestModels.RandomBatch(TestModels.Layout, tasks, rows, random);
            trained.Forward(batch);
            serving.Forward(batch);
            for (int t = 0; t < tasks.Count; t++)
                Assert.Equal(TestDevices.Read(trained, trained.Logits(t)), TestDevices.Read(serving, serving.Logits(t)));
            Assert.Equal(trained.GateSums.ToArray(), serving.GateSums.ToArray());
            Assert.Equal(trained.ExpertCounts.ToArray(), serving.ExpertCounts.ToArray());
        }

        ModelDescription layered = description with { Architecture = description.Architecture with { Precision = Precision.F32 } };
        using MultiTaskModel f32 = new(device, layered, TestModels.Layout, [1, 1, 1], MaxRows, training: false);
        Assert.Equal(mixes && !device.Info.HostAccessible, serving.Memory.Activations < f32.Memory.Activations);
    }
}
