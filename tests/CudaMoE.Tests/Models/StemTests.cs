using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Models;

/// <summary>STEM against the double-precision reference whose foreign experts are constants, and what a task's loss must not reach.</summary>
public sealed class StemTests(ITestOutputHelper output)
{
    private static readonly ArchitectureDescription Stem = new()
    {
        Type = ModelType.Stem,
        Experts = new() { PerTask = 2, Shared = 2, Layers = [7, 5] },
        Tower = [4],
        Activation = ActivationKind.Tanh,
    };

    private static readonly Dictionary<string, (ArchitectureDescription Architecture, IReadOnlyList<TaskDescription> Tasks, BatchLayout Layout)> Architectures = new()
    {
        ["stem"] = (Stem, TestModels.BinaryTasks, TestModels.Layout),
        ["one expert each, silu, mixed tasks, no bias"] =
            (Stem with { Experts = new() { Shared = 1, Layers = [6] }, Gate = new() { Bias = false }, Tower = [], Activation = ActivationKind.Silu }, TestModels.MixedTasks, TestModels.Layout),
        ["sequences"] = (Stem with { Experts = new() { Shared = 3, Layers = [6] } }, TestModels.BinaryTasks, TestModels.SequenceLayout),
        ["one task"] = (Stem, [TestModels.BinaryTasks[0]], TestModels.Layout with { Tasks = 1 }),
    };

    public static TheoryData<string> Cases => [.. Architectures.Keys];

    [Theory]
    [DeviceMemberData(nameof(Cases))]
    public void Model_EveryParameter_MatchesReferenceForwardAndBackward(string deviceName, string name)
    {
        (ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks, BatchLayout layout) = Architectures[name];
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = new(device, TestModels.Describe(architecture, tasks, new() { Seed = (ulong)(uint)seed }), layout, TestModels.Outputs(tasks), maxRows: 40, training: true);
        ModelGradientTests.EnlargeEmbeddings(model, random);
        using Batch other = TestModels.RandomBatch(layout, tasks, rows: 40, random);
        using Batch batch = TestModels.RandomBatch(layout, tasks, rows: 17, random);
        foreach (Batch each in (Batch[])[other, batch])
        {
            Backward(model, each);
            model.BackwardTrunk([], gramIsFresh: false);
        }

        model.Stream.Synchronize();
        ReferenceModel reference = new(model);
        ModelGradientTests.CheckLogits(model, reference, batch);
        reference.KeepForeignExperts(batch);
        ModelGradientTests.CheckGradients(model, reference, () => reference.Losses(batch).Sum(), random, samples: 12);
    }

    /// <summary>The loss of one task gives every number of another task's tables a gradient of exactly 0, and its own and the shared ones some.</summary>
    [Theory]
    [DeviceData(RepresentationPlace.TowerInput)]
    [DeviceData(RepresentationPlace.TrunkInput)]
    public void Gradients_OfOneTask_AreZeroOnTheTablesOfOthers(string deviceName, RepresentationPlace place)
    {
        Random random = new(Environment.TickCount);
        using Device device = Device.Open(deviceName);
        TrainingDescription training = new() { Seed = 4, Balancer = new() { Type = BalancerType.MultiBalance, Place = place, Heads = HeadGradient.Scaled } };
        IReadOnlyList<TaskDescription> tasks = TestModels.BinaryTasks;
        using MultiTaskModel model = new(device, TestModels.Describe(Stem, tasks, training), TestModels.Layout, [1, 1, 1], maxRows: 40, training: true);
        ModelGradientTests.EnlargeEmbeddings(model, random);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, tasks, rows: 33, random);
        string[] tables = [.. model.Parameters.Where(p => p.Kind == ParameterKind.Embedding).Select(p => p.Name)];
        Assert.Equal(3 * 4, tables.Length);
        for (int task = 0; task < tasks.Count; task++)
        {
            float[] weights = new float[3];
            weights[task] = 1;
            Backward(model, batch);
            model.ComputeGram(new double[9]);
            model.BackwardTrunk(weights, gramIsFresh: true);
            IReadOnlyList<float[]> gradients = model.EmbeddingGradients();
            for (int i = 0; i < tables.Length; i++)
            {
                string unit = tables[i].Split('.')[1];
                if (unit == tasks[task].Name || unit == "shared")
                    Assert.Contains(gradients[i], value => value != 0);
                else
                    Assert.All(gradients[i], value => Assert.Equal(0f, value));
            }
        }
    }

    /// <summary>Every table is visible in the forward: a change of another task's tables changes a task's logits.</summary>
    [Theory]
    [DeviceData]
    public void Logits_OfOneTask_DependOnTheTablesOfAll(string deviceName)
    {
        using Device device = Device.Open(deviceName);
        IReadOnlyList<TaskDescription> tasks = TestModels.BinaryTasks;
        using MultiTaskModel model = new(device, TestModels.Describe(Stem, tasks), TestModels.Layout, [1, 1, 1], maxRows: 20, training: false);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, tasks, rows: 20, new Random(3));
        model.Forward(batch);
        float[][] before = [.. Enumerable.Range(0, 3).Select(t => TestDevices.Read(model, model.Logits(t)))];
        foreach (string unit in (string[])["click", "like", "share", "shared"])
        {
            Parameter table = model.Parameters.Single(p => p.Name == $"embeddings.{unit}.user.weight");
            float[] saved = TestDevices.Read(model, table);
            TestDevices.Write(model, table, [.. saved.Select(value => value + 1)]);
            model.Forward(batch);
            for (int t = 0; t < 3; t++)
                Assert.NotEqual(before[t], TestDevices.Read(model, model.Logits(t)));
            TestDevices.Write(model, table, saved);
        }
    }

    [Fact]
    public void WrongDescriptions_NameTheKeyAndTheRule()
    {
        IReadOnlyList<TaskDescription> tasks = TestModels.BinaryTasks;
        DescriptionValidator.Validate(TestModels.Describe(Stem with { Transfer = new() }, tasks));
        Refused("architecture.projection has no effect here", TestModels.Describe(Stem with { Projection = 4 }, tasks));
        Refused("architecture.layer_norm has no effect here", TestModels.Describe(Stem with { LayerNorm = true }, tasks));
        Refused("architecture.experts.shared is missing", TestModels.Describe(Stem with { Experts = new() { Layers = [4] } }, tasks));
        Refused("architecture.experts.layers is empty", TestModels.Describe(Stem with { Experts = new() { Shared = 1 } }, tasks));
        Refused("architecture.experts.count has no effect here", TestModels.Describe(Stem with { Experts = new() { Count = 2, Shared = 1, Layers = [4] } }, tasks));
        Refused("only types mmoe and grec have it", TestModels.Describe(Stem with { Gate = new() { TopK = 1 } }, tasks));
        Refused("tasks[1].name is \"shared\"", TestModels.Describe(Stem, [tasks[0], tasks[1] with { Name = "shared" }]));
        Refused("features have no embedded one", TestModels.Describe(Stem, tasks) with { Features = [new() { Name = "age", Type = FeatureType.Dense }] });
    }

    private static void Refused(string message, ModelDescription description) =>
        Assert.Contains(message, Assert.Throws<DescriptionException>(() => DescriptionValidator.Validate(description)).Message);

    private static void Backward(MultiTaskModel model, Batch batch)
    {
        model.Forward(batch);
        model.ComputeLosses();
        model.BackwardTowers();
    }
}
