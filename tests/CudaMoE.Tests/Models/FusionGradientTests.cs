using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Models;

/// <summary>Outputs and gradients of the fusion family against the double-precision reference and its central differences.</summary>
public sealed class FusionGradientTests(ITestOutputHelper output)
{
    private static readonly ExpertsDescription TwoLevels = new() { Levels = [[6], [5]] };

    private static readonly Dictionary<string, (ArchitectureDescription Architecture, IReadOnlyList<TaskDescription> Tasks)> Architectures = List();

    public static TheoryData<string> Cases => [.. Architectures.Keys];

    public static TheoryData<int> Draws { get; } = [.. Enumerable.Range(0, 30)];

    /// <summary>Every parameter's gradient: on the cpu every element, elsewhere some.</summary>
    [Theory]
    [DeviceMemberData(nameof(Cases))]
    public void Model_EveryParameter_MatchesReferenceForwardAndBackward(string device, string name)
    {
        (ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks) = Architectures[name];
        Check(device, architecture, tasks, TestModels.Layout, rows: 13, samples: device == TestDevices.Cpu ? int.MaxValue : 6, Environment.TickCount);
    }

    /// <summary>Random models: tasks, units, levels, widths, options, rows; the seed is printed.</summary>
    [Theory]
    [DeviceMemberData(nameof(Draws))]
    public void Model_RandomShape_MatchesReferenceForwardAndBackward(string device, int draw)
    {
        int seed = Environment.TickCount + (draw * 7919);
        Random random = new(seed);
        IReadOnlyList<TaskDescription> tasks = [.. Enumerable.Range(0, random.Next(1, 5)).Select(t => new TaskDescription { Name = $"task{t}", Type = TaskType.Binary })];
        ArchitectureDescription architecture = Draw(random);
        output.WriteLine($"{tasks.Count} tasks, {architecture}, {architecture.Experts}, levels {string.Join(" | ", architecture.Experts!.Levels.Select(l => string.Join(',', l)))}");
        Check(device, architecture, tasks, TestModels.DenseLayout with { Tasks = tasks.Count }, random.Next(1, 24), samples: 4, seed);
    }

    /// <summary>Operands of 8 bits: within 2^-8 of each factor, over two levels, a projection and a tower.</summary>
    [Theory]
    [DeviceMemberData(nameof(Cases))]
    public void Forward_Bf16_IsNearTheReference(string deviceName, string name)
    {
        (ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks) = Architectures[name];
        using Device device = Device.Open(deviceName);
        ModelDescription description = TestModels.Describe(architecture with { Precision = Precision.Bf16 }, tasks);
        using MultiTaskModel model = new(device, description, TestModels.Layout, TestModels.Outputs(tasks), maxRows: 20, training: false);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, tasks, rows: 20, new Random(7));
        model.Forward(batch);
        ModelGradientTests.CheckLogits(model, new(model), batch, tolerance: 0.03);
        Assert.ThrowsAny<Exception>(() => ModelGradientTests.CheckLogits(model, new(model), batch));
    }

    [Theory]
    [DeviceData]
    public void Forward_NoRows_DoesNothingAndTheNextBatchIsRight(string deviceName)
    {
        (ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks) = Architectures["adatt, several experts, shared"];
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = new(device, TestModels.Describe(architecture, tasks), TestModels.Layout, TestModels.Outputs(tasks), maxRows: 8, training: true);
        using Batch none = TestModels.RandomBatch(TestModels.Layout, tasks, rows: 0, new Random(1));
        using Batch some = TestModels.RandomBatch(TestModels.Layout, tasks, rows: 5, new Random(1));
        foreach (Batch batch in (Batch[])[none, some])
        {
            model.Forward(batch);
            model.ComputeLosses();
            model.BackwardTowers();
            model.BackwardTrunk([], gramIsFresh: false);
        }

        ModelGradientTests.CheckLogits(model, new(model), some);
    }

    private static ArchitectureDescription Draw(Random random)
    {
        ModelType type = new[] { ModelType.Adatt, ModelType.Ple, ModelType.Cgc, ModelType.MlMmoe, ModelType.CrossStitch }[random.Next(5)];
        bool owned = type is ModelType.Adatt or ModelType.Ple or ModelType.Cgc;
        IReadOnlyList<int>[] levels = [.. Enumerable.Range(0, random.Next(1, 4)).Select(_ => Enumerable.Range(0, random.Next(1, 3)).Select(_ => random.Next(1, 10)).ToArray())];
        return new()
        {
            Type = type,
            Projection = random.Next(2) == 0 ? random.Next(1, 10) : null,
            Experts = new()
            {
                Count = type == ModelType.MlMmoe ? random.Next(1, 6) : null,
                PerTask = owned ? random.Next(1, 4) : null,
                Shared = owned ? random.Next(type == ModelType.Adatt ? 0 : 1, 4) : null,
                Layers = type == ModelType.Cgc ? levels[0] : [],
                Levels = type == ModelType.Cgc ? [] : levels,
                Native = type == ModelType.Adatt ? (NativeResidual)random.Next(4) : NativeResidual.Auto,
            },
            Gate = new()
            {
                Bias = type == ModelType.CrossStitch || random.Next(2) == 0,
                Input = type is ModelType.Adatt or ModelType.Ple && random.Next(3) == 0 ? GateInput.Trunk : null,
                Sharing = type == ModelType.MlMmoe && random.Next(3) == 0 ? GateSharing.Shared : GateSharing.PerTask,
            },
            StitchOwnWeight = type == ModelType.CrossStitch && random.Next(2) == 0 ? null : 0.9,
            Tower = random.Next(2) == 0 ? [] : [random.Next(1, 6)],
            // Smooth activations, so that differences see no kinks; the kinks of ReLU are tested with the products.
            Activation = new[] { ActivationKind.Tanh, ActivationKind.Silu, ActivationKind.Gelu, ActivationKind.Sigmoid }[random.Next(4)],
        };
    }

    private static Dictionary<string, (ArchitectureDescription, IReadOnlyList<TaskDescription>)> List()
    {
        IReadOnlyList<TaskDescription> binary = TestModels.BinaryTasks;
        IReadOnlyList<TaskDescription> mixed = TestModels.MixedTasks;
        ArchitectureDescription tanh = new() { Type = ModelType.Adatt, Experts = TwoLevels, Tower = [4], Activation = ActivationKind.Tanh };
        ArchitectureDescription silu = tanh with { Projection = 7, LayerNorm = true, Activation = ActivationKind.Silu };
        return new()
        {
            ["adatt, one expert a task"] = (tanh, binary),
            ["adatt, several experts"] = (tanh with { Experts = TwoLevels with { PerTask = 2 } }, binary),
            ["adatt, several experts, shared"] = (silu with { Experts = TwoLevels with { PerTask = 2, Shared = 3 } }, mixed),
            ["adatt, one shared expert"] = (tanh with { Experts = TwoLevels with { Shared = 1 } }, binary),
            ["adatt, deep experts, three levels, gates on the trunk's input"] =
                (silu with { Experts = new() { Levels = [[6, 4], [5], [3, 4]], PerTask = 2, Shared = 1 }, Gate = new() { Input = GateInput.Trunk, Bias = false } }, binary),
            ["adatt without native experts"] = (tanh with { Experts = TwoLevels with { PerTask = 2, Native = NativeResidual.None } }, binary),
            ["adatt, native experts with weight 1"] = (tanh with { Experts = TwoLevels with { PerTask = 2, Native = NativeResidual.Unit } }, binary),
            ["ml_mmoe"] = (tanh with { Type = ModelType.MlMmoe, Experts = TwoLevels with { Count = 4 } }, binary),
            ["ml_mmoe, one gate for all tasks"] = (silu with { Type = ModelType.MlMmoe, Experts = TwoLevels with { Count = 4 }, Gate = new() { Sharing = GateSharing.Shared } }, mixed),
            ["cgc"] = (tanh with { Type = ModelType.Cgc, Experts = new() { Layers = [6, 5], PerTask = 2, Shared = 2 } }, binary),
            ["ple"] = (tanh with { Type = ModelType.Ple, Experts = TwoLevels with { Shared = 1 } }, binary),
            ["ple, three levels, no bias"] =
                (silu with { Type = ModelType.Ple, Experts = new() { Levels = [[6], [5, 3], [4]], PerTask = 2, Shared = 3 }, Gate = new() { Bias = false } }, mixed),
            ["ple, gates on the trunk's input"] = (tanh with { Type = ModelType.Ple, Experts = TwoLevels with { Shared = 2 }, Gate = new() { Input = GateInput.Trunk } }, binary),
            ["cross_stitch"] = (tanh with { Type = ModelType.CrossStitch }, binary),
            ["cross_stitch, drawn weights"] = (silu with { Type = ModelType.CrossStitch, StitchOwnWeight = null }, mixed),
        };
    }

    private void Check(string deviceName, ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks, BatchLayout layout, int rows, int samples, int seed)
    {
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        using Device device = Device.Open(deviceName);
        ModelDescription description = TestModels.Describe(architecture, tasks, new() { Seed = (ulong)(uint)seed });
        using MultiTaskModel model = new(device, description, layout, TestModels.Outputs(tasks), maxRows: 40, training: true);
        ModelGradientTests.EnlargeEmbeddings(model, random);
        using Batch other = TestModels.RandomBatch(layout, tasks, rows: 40, random);
        using Batch batch = TestModels.RandomBatch(layout, tasks, rows, random);
        // A full batch first, so that what it leaves behind would be seen.
        foreach (Batch each in (Batch[])[other, batch])
        {
            model.Forward(each);
            model.ComputeLosses();
            model.BackwardTowers();
            model.BackwardTrunk([], gramIsFresh: false);
        }

        model.Stream.Synchronize();
        ReferenceModel reference = new(model);
        ModelGradientTests.CheckLogits(model, reference, batch);
        CheckGateSums(model, rows);
        ModelGradientTests.CheckGradients(model, reference, () => reference.Losses(batch).Sum(), random, samples);
    }

    /// <summary>The weights of a gate sum to 1 in every row.</summary>
    private static void CheckGateSums(MultiTaskModel model, int rows)
    {
        double[] sums = model.GateSums.ToArray();
        Assert.Equal(model.GateCount * model.ExpertCount, sums.Length);
        for (int g = 0; g < model.GateCount; g++)
            Assert.Equal(rows, sums.Skip(g * model.ExpertCount).Take(model.ExpertCount).Sum(), 1e-4);
    }
}
