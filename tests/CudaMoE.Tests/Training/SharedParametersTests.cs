using CudaMoE.Balancing;
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

/// <summary>Balancing of the gradients of shared parameters: against the double-precision reference, and against passes of single tasks by another path.</summary>
public sealed class SharedParametersTests(ITestOutputHelper output)
{
    private const int Rows = 37;

    private static readonly float[] Weights = [0.7f, 1.9f, 0.2f];

    private static readonly Dictionary<string, ArchitectureDescription> Architectures = All();

    public static TheoryData<string> Names { get; } = [.. All().Keys];

    /// <summary>The Gram matrix of the reference: central differences of every task's loss in double, by every shared element.</summary>
    [Theory]
    [DeviceData("mmoe")]
    [DeviceData("cgc")]
    [DeviceData("adatt")]
    [DeviceData("shared bottom")]
    [DeviceData("single task")]
    public void Gram_SmallModel_IsThatOfFiniteDifferences(string deviceName, string name)
    {
        Random random = Seeded();
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = Build(device, name, RepresentationPlace.SharedParameters);
        ModelGradientTests.EnlargeEmbeddings(model, random);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, Rows, random);
        double[] gram = Gram(model, batch);

        ReferenceModel reference = new(model);
        List<double[]> gradients = [];
        foreach (Parameter parameter in model.Parameters)
        {
            double[] values = reference.Parameters[parameter.Name];
            for (int i = 0; i < values.Length; i++)
            {
                if (IsShared(name, parameter, i))
                    gradients.Add(Difference(reference, batch, values, i));
            }
        }

        double[] expected = new double[9];
        foreach (double[] gradient in gradients)
        {
            for (int i = 0; i < 9; i++)
                expected[i] += gradient[i / 3] * gradient[i % 3];
        }

        Near(expected, gram, 1e-4);
    }

    [Theory]
    [DeviceMemberData(nameof(Names))]
    public void Gram_EveryModel_IsThatOfPassesOfSingleTasks(string deviceName, string name)
    {
        Random random = Seeded();
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = Build(device, name, RepresentationPlace.SharedParameters);
        using MultiTaskModel other = Build(device, name, place: null);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, Rows, random);
        double[] gram = Gram(model, batch);
        (double[][] tasks, _) = SingleTasks(other, batch, name, shared: true);
        Near([.. Enumerable.Range(0, 9).Select(i => Dot(tasks[i / 3], tasks[i % 3]))], gram, 1e-5);
    }

    [Theory]
    [DeviceMemberData(nameof(Names))]
    public void BackwardTrunk_Weights_GiveTheSumOfWeightedPassesOfSingleTasks(string deviceName, string name)
    {
        Random random = Seeded();
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = Build(device, name, RepresentationPlace.SharedParameters);
        using MultiTaskModel other = Build(device, name, place: null);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, Rows, random);
        (double[][] tasks, double[] gates) = SingleTasks(other, batch, name, shared: false);
        bool[] isShared = [.. Elements(other, name).Select(element => element.Shared)];
        foreach (bool fresh in new[] { true, false })
        {
            Gram(model, batch);
            model.BackwardTrunk(Weights, fresh);
            double[] actual = Gradient(model);
            double scale = tasks.Max(task => task.Max(Math.Abs));
            for (int i = 0; i < actual.Length; i++)
            {
                // What a single task reads has its plain gradient.
                double expected = gates[i] + Enumerable.Range(0, 3).Sum(t => (isShared[i] ? Weights[t] : 1) * tasks[t][i]);
                Assert.True(Math.Abs(expected - actual[i]) <= 2e-5 * scale, $"element {i}, fresh {fresh}: {actual[i]}, expected {expected}");
            }
        }
    }

    [Theory]
    [DeviceData]
    public void BackwardTrunk_ScaledHeads_WeightWhatSingleTasksReadToo(string deviceName)
    {
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = Build(device, "mmoe", RepresentationPlace.SharedParameters, new() { Heads = HeadGradient.Scaled });
        using MultiTaskModel other = Build(device, "mmoe", place: null);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, Rows, Seeded());
        (double[][] tasks, _) = SingleTasks(other, batch, "mmoe", shared: false);
        foreach (bool fresh in new[] { true, false })
        {
            Gram(model, batch);
            model.BackwardTrunk(Weights, fresh);
            double[] actual = Gradient(model);
            for (int i = 0; i < actual.Length; i++)
                Assert.Equal(Enumerable.Range(0, 3).Sum(t => Weights[t] * tasks[t][i]), actual[i], 1e-6);
        }
    }

    /// <summary>A task without labels has no gradient and no part; two tasks of the same labels have one direction; every balancer gives finite weights.</summary>
    [Theory]
    [InlineData(BalancerType.Mgda)]
    [InlineData(BalancerType.MultiBalance)]
    [InlineData(BalancerType.Pcgrad)]
    [InlineData(BalancerType.GradVac)]
    [InlineData(BalancerType.Cagrad)]
    [InlineData(BalancerType.ImtlG)]
    [InlineData(BalancerType.Imtl)]
    [InlineData(BalancerType.NashMtl)]
    [InlineData(BalancerType.FairGrad)]
    [InlineData(BalancerType.AlignedMtl)]
    [InlineData(BalancerType.Upgrad)]
    [InlineData(BalancerType.PeLtr)]
    [InlineData(BalancerType.GradNorm)]
    [InlineData(BalancerType.MetaBalance)]
    [InlineData(BalancerType.Moco)]
    [InlineData(BalancerType.Modo)]
    [InlineData(BalancerType.Sdmgrad)]
    [InlineData(BalancerType.DbMtl)]
    [InlineData(BalancerType.ExcessMtl)]
    public void Run_EveryBalancer_TrainsWithMissingLabels(BalancerType type)
    {
        using Device device = Device.Open(TestDevices.Default);
        using MultiTaskModel model = Build(device, "mmoe", RepresentationPlace.SharedParameters, new() { Type = type });
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, Rows, Seeded());
        using Batch masked = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, Rows, Seeded());
        masked.Labels(1)[..Rows].Fill(float.NaN);
        int steps = TestDevices.Default == TestDevices.Simt ? 12 : 60;
        TrainingStep step = new(model, steps);
        double first = 0, last = 0;
        for (int i = 1; i <= steps; i++)
        {
            bool mask = i % 3 == 0;
            step.Run(mask ? masked : batch, i);
            step.Finish();
            Assert.True(step.HasGram);
            if (mask)
                Assert.Equal(0, step.Weights[1]);
            foreach (double weight in step.Weights)
                Assert.True(double.IsFinite(weight));
            if (!mask)
                last = step.Losses.ToArray().Sum();
            first = i == 1 ? last : first;
        }

        output.WriteLine($"{first} to {last}");
        Assert.True(last < first, $"{type}: {first} to {last}");
    }

    /// <summary>A batch none of whose tasks has labels, and one without rows.</summary>
    [Theory]
    [DeviceData]
    public void Gram_NothingToLearn_IsZero(string deviceName)
    {
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = Build(device, "mmoe", RepresentationPlace.SharedParameters);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, Rows, Seeded());
        Assert.All([0, 4, 8], i => Assert.True(Gram(model, batch)[i] > 0));
        for (int t = 0; t < 3; t++)
            batch.Labels(t)[..Rows].Fill(float.NaN);
        Assert.All(Gram(model, batch), value => Assert.Equal(0, value));
        using Batch empty = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 0, Seeded());
        Assert.All(Gram(model, empty), value => Assert.Equal(0, value));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Run_SteadyState_AllocatesNoManagedMemory(string name)
    {
        using Device device = Device.Open(TestDevices.Default);
        using MultiTaskModel model = Build(device, name, RepresentationPlace.SharedParameters, new() { Every = 2 });
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, Rows, new Random(1));
        BalancedModel.CheckNoManagedMemory(model, batch, TestDevices.Default);
    }

    private Random Seeded()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        return new(seed);
    }

    private static Dictionary<string, ArchitectureDescription> All()
    {
        ArchitectureDescription mmoe = new()
        {
            Type = ModelType.Mmoe,
            Experts = new() { Count = 4, Layers = [6] },
            Tower = [4],
            Activation = ActivationKind.Tanh,
        };
        ArchitectureDescription fusion = mmoe with { Experts = new() { PerTask = 2, Shared = 1, Levels = [[6], [5]] } };
        return new()
        {
            ["mmoe"] = mmoe with { Projection = 8 },
            ["mmoe with norm"] = mmoe with { LayerNorm = true },
            ["mmoe without projection"] = mmoe,
            ["mmoe, one gate"] = mmoe with { Gate = new() { Sharing = GateSharing.Shared } },
            ["mmoe, losses of the gates"] = mmoe with { Gate = new() { TopK = 2, BalanceLoss = 0.1f, ZLoss = 0.01f } },
            ["shared bottom"] = new() { Type = ModelType.SharedBottom, Bottom = [7, 5], Tower = [4], Activation = ActivationKind.Tanh },
            ["single task"] = new() { Type = ModelType.SingleTask, Bottom = [6], Tower = [4], Activation = ActivationKind.Tanh },
            ["towers alone"] = new() { Type = ModelType.SingleTask, Projection = 6, Tower = [4], Activation = ActivationKind.Tanh },
            ["transfer"] = mmoe with { Gate = new() { TopK = 2, BalanceLoss = 0.1f }, Transfer = new() },
            ["transfer on bottoms"] = new() { Type = ModelType.SingleTask, Bottom = [6], Tower = [4], Activation = ActivationKind.Tanh, Transfer = new() },
            ["cgc"] = fusion with { Type = ModelType.Cgc, Experts = new() { PerTask = 2, Shared = 1, Layers = [6] } },
            ["ple"] = fusion with { Type = ModelType.Ple },
            ["adatt"] = fusion with { Type = ModelType.Adatt },
            ["cross stitch"] = fusion with { Type = ModelType.CrossStitch, Experts = new() { Levels = [[6], [5]] } },
            ["ml_mmoe"] = fusion with { Type = ModelType.MlMmoe, Experts = new() { Count = 3, Levels = [[6], [5]] } },
        };
    }

    /// <summary>A model; without a place one whose backward passes know nothing of kept gradients.</summary>
    private static MultiTaskModel Build(Device device, string name, RepresentationPlace? place, BalancerDescription? balancer = null)
    {
        BalancerDescription used = place is { } given ? (balancer ?? new()) with { Place = given } : new() { Type = BalancerType.Uw, Heads = HeadGradient.Own };
        if (place is not null && used.Type == BalancerType.Equal)
            used = used with { Type = BalancerType.Mgda };
        ModelDescription description = TestModels.Describe(Architectures[name], TestModels.BinaryTasks, new() { Seed = 9, Balancer = used });
        return new(device, description, TestModels.Layout, [1, 1, 1], Rows, training: true);
    }

    private static double[] Gram(MultiTaskModel model, Batch batch)
    {
        BalancedModel.Forward(model, batch);
        model.BackwardTowers();
        double[] gram = new double[9];
        model.ComputeGram(gram);
        return gram;
    }

    /// <summary>The tasks' gradients below the towers, of all elements or those that are shared, and that of the gates' own losses.</summary>
    private static (double[][] Tasks, double[] Gates) SingleTasks(MultiTaskModel model, Batch batch, string name, bool shared)
    {
        bool[] kept = [.. Elements(model, name).Select(element => !shared || element.Shared)];
        double[] gates = Pass([0, 0, 0]);
        double[][] tasks = [.. Enumerable.Range(0, 3).Select(t => Pass([.. Enumerable.Range(0, 3).Select(i => i == t ? 1f : 0f)]).Zip(gates, (a, b) => a - b).ToArray())];
        return ([.. tasks.Select(Kept)], Kept(gates));

        double[] Kept(double[] values) => [.. values.Where((_, i) => kept[i])];

        double[] Pass(float[] weights)
        {
            BalancedModel.Forward(model, batch);
            model.BackwardTowers();
            model.BackwardTrunk(weights, gramIsFresh: false);
            return Gradient(model);
        }
    }

    private static double[] Gradient(MultiTaskModel model)
    {
        IReadOnlyList<float[]> tables = model.EmbeddingGradients();
        int table = 0;
        return
        [
            .. model.Parameters.Where(p => !p.Name.StartsWith("towers.", StringComparison.Ordinal))
                .SelectMany(p => p.Kind == ParameterKind.Embedding ? tables[table++] : TestDevices.Read(model, p.Gradient, p.Count))
                .Select(value => (double)value),
        ];
    }

    private static IEnumerable<(Parameter Parameter, bool Shared)> Elements(MultiTaskModel model, string name) =>
        model.Parameters.Where(p => !p.Name.StartsWith("towers.", StringComparison.Ordinal))
            .SelectMany(p => Enumerable.Range(0, (int)p.Count).Select(i => (p, IsShared(name, p, i))));

    /// <summary>As docs/balancing.md says what is shared, spelt out for these models.</summary>
    private static bool IsShared(string name, Parameter parameter, int element) => (name, parameter.Name) switch
    {
        (_, var tower) when tower.StartsWith("towers.", StringComparison.Ordinal) => false,
        ("mmoe" or "mmoe with norm" or "mmoe without projection" or "mmoe, losses of the gates", "gate.weight" or "gate.bias") => false,
        ("single task", var bottom) when bottom.StartsWith("bottom.", StringComparison.Ordinal) => false,
        ("cgc", var gate) when gate.StartsWith("levels.0.gate.", StringComparison.Ordinal) => false,
        ("cgc", var experts) when experts.StartsWith("levels.0.experts.", StringComparison.Ordinal) => element >= parameter.Count / 7 * 6,
        ("ple", var experts) when experts.StartsWith("levels.1.experts.", StringComparison.Ordinal) => element >= parameter.Count / 7 * 6,
        ("ple" or "adatt" or "ml_mmoe", var gate) when gate.StartsWith("levels.1.gate.", StringComparison.Ordinal) => false,
        ("adatt", "levels.1.native.weight") => false,
        ("cross stitch", "levels.1.stitch.weight") => false,
        _ => true,
    };

    private static double[] Difference(ReferenceModel reference, Batch batch, double[] values, int i)
    {
        const double step = 1e-5;
        double saved = values[i];
        values[i] = saved + step;
        double[] up = reference.Losses(batch);
        values[i] = saved - step;
        double[] down = reference.Losses(batch);
        values[i] = saved;
        return [.. up.Zip(down, (a, b) => (a - b) / (2 * step))];
    }

    private static double Dot(double[] a, double[] b) => a.Zip(b, (x, y) => x * y).Sum();

    private static void Near(double[] expected, double[] actual, double tolerance)
    {
        for (int i = 0; i < 9; i++)
        {
            double scale = Math.Sqrt(expected[i / 3 * 4] * expected[i % 3 * 4]);
            Assert.True(scale > 0);
            Assert.True(Math.Abs(expected[i] - actual[i]) <= tolerance * scale, $"gram[{i}] = {actual[i]}, expected {expected[i]}, scale {scale}");
        }
    }
}
