using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Models;

/// <summary>Outputs and gradients of MGOE against its reference and central differences, and its identities.</summary>
public sealed class MgoeTests(ITestOutputHelper output)
{
    private static readonly MacroDescription Macro = new() { User = "user", Item = "item", UserNodes = 5, ItemNodes = 3 };

    private static readonly Dictionary<string, (ArchitectureDescription Architecture, IReadOnlyList<TaskDescription> Tasks)> Architectures = List();

    public static TheoryData<string> Cases => [.. Architectures.Keys];

    public static TheoryData<int> Draws { get; } = [.. Enumerable.Range(0, 20)];

    /// <summary>Every element of every parameter's gradient on the cpu, some on the executor.</summary>
    [Theory]
    [DeviceMemberData(nameof(Cases))]
    public void Model_EveryParameter_MatchesReferenceForwardAndBackward(string device, string name)
    {
        (ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks) = Architectures[name];
        Check(device, architecture, tasks, rows: 9, samples: device == TestDevices.Cpu ? int.MaxValue : 6, Environment.TickCount);
    }

    [Theory]
    [MemberData(nameof(Draws))]
    public void Model_RandomShape_MatchesReferenceForwardAndBackward(int draw)
    {
        int seed = Environment.TickCount + (draw * 7919);
        Random random = new(seed);
        IReadOnlyList<TaskDescription> tasks = [.. Enumerable.Range(0, random.Next(1, 5)).Select(t => new TaskDescription { Name = $"task{t}", Type = TaskType.Binary })];
        bool none = random.Next(5) == 0;
        ArchitectureDescription architecture = new()
        {
            Type = ModelType.Mgoe,
            Experts = new() { PerTask = random.Next(1, 4), Shared = random.Next(1, 4), Layers = [.. Enumerable.Range(0, random.Next(1, 3)).Select(_ => random.Next(1, 20))] },
            Gate = new() { Bias = random.Next(2) == 0 },
            Macro = none
                ? new() { Tables = MacroTables.None, Coupling = random.Next(2) == 0 }
                : Macro with
                {
                    UserNodes = random.Next(1, 30),
                    ItemNodes = random.Next(1, 30),
                    Tables = (MacroTables)random.Next(2),
                    Attention = (MacroAttention)random.Next(2),
                    Coupling = random.Next(2) == 0,
                },
            Tower = random.Next(2) == 0 ? [] : [random.Next(1, 6)],
            Activation = new[] { ActivationKind.Tanh, ActivationKind.Silu, ActivationKind.Gelu, ActivationKind.Sigmoid }[random.Next(4)],
        };
        output.WriteLine($"{tasks.Count} tasks, {architecture}, {architecture.Experts}");
        Check(TestDevices.Default, architecture, tasks, random.Next(1, 24), samples: 3, seed);
    }

    /// <summary>Gradients at the trunk's input, task by task, sum up to the whole one; weighted ones do where nothing is shared above.</summary>
    [Theory]
    [DeviceData]
    public void Trunk_InputGradientsOfTasks_AddUpToTheWholeOne(string deviceName)
    {
        (ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks) = Architectures["over neighbours"];
        TrainingDescription training = new() { Seed = 3, Balancer = new() { Type = BalancerType.Mgda, Place = RepresentationPlace.TrunkInput } };
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = new(device, TestModels.Describe(architecture, tasks, training), TestModels.Layout, [1, 1, 1], maxRows: 20, training: true);
        Randomize(model, new Random(4));
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, tasks, 20, new Random(5));
        model.Forward(batch);
        model.ComputeLosses();
        model.BackwardTowers();
        double[] gram = new double[9];
        model.ComputeGram(gram);
        model.BackwardTrunk([1f, 1f, 1f], gramIsFresh: true);
        float[] split = TestDevices.Read(model, model.TrunkInputGradients);
        model.BackwardTrunk([], gramIsFresh: false);
        float[] whole = TestDevices.Read(model, model.TrunkInputGradients);
        Assert.Equal(gram.Sum(), whole.Sum(g => (double)g * g), 1e-4 * gram.Sum());
        for (int i = 0; i < whole.Length; i++)
            Assert.Equal(whole[i], split[i], 1e-5f);
        Assert.Contains(whole, g => g != 0);
    }

    [Theory]
    [InlineData(MacroAttention.OverNeighbours)]
    [InlineData(MacroAttention.Degenerate)]
    public void Training_SameSeed_SameBitsWhateverTheThreads(MacroAttention attention)
    {
        float[]? expected = null;
        foreach (string spec in new[] { "cpu:threads=1", "cpu:threads=2", "cpu:threads=3" })
        {
            (ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks) = Architectures["over neighbours"];
            using Device device = Device.Open(spec);
            using MultiTaskModel model = new(
                device, TestModels.Describe(architecture with { Macro = Macro with { Attention = attention } }, tasks), TestModels.Layout, [1, 1, 1], maxRows: 300, training: true);
            Randomize(model, new Random(8));
            for (int step = 1; step <= 5; step++)
            {
                using Batch batch = TestModels.RandomBatch(TestModels.Layout, tasks, 300, new Random(step));
                model.Forward(batch, step);
                model.ComputeLosses();
                model.BackwardTowers();
                model.BackwardTrunk([], gramIsFresh: false);
                model.Update(0.01f, 0.05f, step);
            }

            float[] values = [.. model.Parameters.SelectMany(parameter => TestDevices.Read(model, parameter))];
            expected ??= values;
            Assert.Equal(expected, values);
        }
    }

    /// <summary>A model without training computes the same, and frozen weights are never changed.</summary>
    [Theory]
    [DeviceData]
    public void Frozen_Weights_StayAsTheyAre(string deviceName)
    {
        (ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks) = Architectures["shared tables, degenerate"];
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = new(device, TestModels.Describe(architecture, tasks), TestModels.Layout, [1, 1, 1], maxRows: 20, training: true);
        Parameter[] frozen = [.. model.Parameters.Where(p => p.Kind == ParameterKind.Frozen)];
        Assert.Equal(["macro.user.weights", "macro.item.weights"], frozen.Select(p => p.Name));
        // Before a graph is loaded all macro nodes weigh the same.
        Assert.All(TestDevices.Read(model, frozen[0]).Take(4), weight => Assert.Equal(0.25f, weight));
        Assert.All(TestDevices.Read(model, frozen[0]).Skip(4).Take(6), weight => Assert.Equal(1f / 6, weight));
        float[][] before = [.. frozen.Select(p => TestDevices.Read(model, p))];
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, tasks, 20, new Random(5));
        model.Forward(batch);
        model.ComputeLosses();
        model.BackwardTowers();
        model.BackwardTrunk([], gramIsFresh: false);
        model.Update(0.1f, 0.1f, 1);
        Assert.Equal(before, frozen.Select(p => TestDevices.Read(model, p)));
    }

    private static Dictionary<string, (ArchitectureDescription, IReadOnlyList<TaskDescription>)> List()
    {
        ArchitectureDescription tanh = new()
        {
            Type = ModelType.Mgoe,
            Experts = new() { PerTask = 2, Shared = 1, Layers = [6, 5] },
            Macro = Macro,
            Tower = [4],
            Activation = ActivationKind.Tanh,
        };
        return new()
        {
            ["over neighbours"] = (tanh, TestModels.BinaryTasks),
            ["degenerate"] = (tanh with { Macro = Macro with { Attention = MacroAttention.Degenerate } }, TestModels.BinaryTasks),
            ["shared tables, over neighbours, mixed tasks"] = (tanh with { Macro = Macro with { Tables = MacroTables.Shared }, Activation = ActivationKind.Silu }, TestModels.MixedTasks),
            ["shared tables, degenerate"] = (tanh with { Macro = Macro with { Tables = MacroTables.Shared, Attention = MacroAttention.Degenerate } }, TestModels.BinaryTasks),
            ["no coupling, no tower"] = (tanh with { Macro = Macro with { Coupling = false }, Tower = [], Experts = new() { PerTask = 1, Shared = 2, Layers = [5] } }, TestModels.BinaryTasks),
            ["no graph"] = (tanh with { Macro = new() { Tables = MacroTables.None } }, TestModels.BinaryTasks),
            ["given tasks"] = (tanh, TestModels.GivenTasks),
        };
    }

    /// <summary>Embeddings of a size that shows, and macro weights that sum to 1 for each node and order.</summary>
    private static void Randomize(MultiTaskModel model, Random random)
    {
        ModelGradientTests.EnlargeEmbeddings(model, random);
        MacroDescription macro = model.Description.Architecture.Macro!;
        foreach (Parameter parameter in model.Parameters.Where(p => p.Kind == ParameterKind.Frozen))
        {
            int width = macro.UserNodes + macro.ItemNodes + 2;
            int first = 1 + (parameter.Name == "macro.user.weights" ? macro.ItemNodes : macro.UserNodes);
            float[] values = [.. Enumerable.Range(0, (int)parameter.Count).Select(_ => 0.1f + random.NextSingle())];
            for (int row = 0; row < parameter.Shape[0]; row++)
            {
                Normalize(values.AsSpan(row * width, first));
                Normalize(values.AsSpan((row * width) + first, width - first));
            }

            TestDevices.Write(model, parameter, values);
        }

        static void Normalize(Span<float> weights)
        {
            float sum = 0;
            foreach (float weight in weights)
                sum += weight;
            foreach (ref float weight in weights)
                weight /= sum;
        }
    }

    private void Check(string deviceName, ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks, int rows, int samples, int seed)
    {
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        using Device device = Device.Open(deviceName);
        ModelDescription description = TestModels.Describe(architecture, tasks, new() { Seed = (ulong)(uint)seed });
        BatchLayout layout = TestModels.Layout with { Tasks = tasks.Count };
        using MultiTaskModel model = new(device, description, layout, TestModels.Outputs(tasks), maxRows: 25, training: true);
        Randomize(model, random);
        using Batch other = TestModels.RandomBatch(layout, tasks, rows: 25, random);
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
        for (int g = 0; g < model.GateCount; g++)
            Assert.Equal(rows, model.GateSums.ToArray().Skip(g * model.ExpertCount).Take(model.ExpertCount).Sum(), 1e-4);
        ModelGradientTests.CheckGradients(model, reference, () => reference.Losses(batch).Sum(), random, samples);
    }
}
