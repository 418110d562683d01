using CudaMoE.Balancing;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Models;
using CudaMoE.Tests.Support;
using CudaMoE.Training;
using static CudaMoE.Tests.Training.BalancedModel;

namespace CudaMoE.Tests.Training;

/// <summary>What a step promises of every balancer, and of those that look at more than the Gram matrix.</summary>
public sealed class BalancedStepTests
{
    public static TheoryData<BalancerType, bool> EveryBalancer
    {
        get
        {
            TheoryData<BalancerType, bool> data = new() { { BalancerType.MultiBalance, true } };
            foreach (BalancerType type in Enum.GetValues<BalancerType>())
                data.Add(type, false);
            return data;
        }
    }

    public static TheoryData<RepresentationPlace, GateSharing, bool> Columns { get; } = new()
    {
        { RepresentationPlace.TowerInput, GateSharing.PerTask, false },
        { RepresentationPlace.TowerInput, GateSharing.Shared, false },
        { RepresentationPlace.TrunkInput, GateSharing.PerTask, false },
        { RepresentationPlace.TowerInput, GateSharing.Shared, true },
    };

    public static TheoryData<BalancerType, RepresentationPlace> EveryPlace
    {
        get
        {
            TheoryData<BalancerType, RepresentationPlace> data = [];
            foreach (BalancerType type in Enum.GetValues<BalancerType>())
            {
                data.Add(type, RepresentationPlace.TowerInput);
                if (!BalancerFacts.Of(type).UsesGradients)
                    continue;
                data.Add(type, RepresentationPlace.TrunkInput);
                if (type != BalancerType.GradDrop)
                    data.Add(type, RepresentationPlace.SharedParameters);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(EveryBalancer))]
    public void Run_SteadyState_AllocatesNoManagedMemory(BalancerType balancer, bool sparse)
    {
        using Device device = Device.Open(TestDevices.Default);
        using MultiTaskModel model = Model(device, new() { Type = balancer }, sparse ? new() { TopK = 2 } : new());
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 64, new Random(1));
        BalancedModel.CheckNoManagedMemory(model, batch, TestDevices.Default);
    }

    [Theory]
    [DeviceMemberData(nameof(Columns))]
    public void ComputeColumns_EveryPlace_AreSumsOfTheTasksGradients(string deviceName, RepresentationPlace place, GateSharing sharing, bool halves)
    {
        using Device device = Device.Open(deviceName);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 50, new Random(2));
        BalancerType type = halves ? BalancerType.Modo : BalancerType.DbMtl;
        using MultiTaskModel model = Model(device, new() { Type = type, Place = place }, new() { Sharing = sharing });
        int width = model.GradientWidth;
        double[][] gradients = [.. Enumerable.Range(0, 3).Select(t => TaskGradient(model, batch, t, place, sharing))];
        Forward(model, batch);
        model.BackwardTowers();
        double[] gram = new double[9];
        model.ComputeGram(gram);
        double[] columns = new double[3 * width * (halves ? 2 : 1)];
        model.ComputeColumns(halves ? ColumnKind.Halves : ColumnKind.Sum, columns);
        for (int t = 0; t < 3; t++)
        {
            Assert.Equal(gradients[t].Sum(v => v * v), gram[t * 4], 1e-5 * gram[t * 4]);
            for (int k = 0; k < width; k++)
            {
                double expected = Enumerable.Range(0, 50).Where(row => !halves || row % 2 == 0).Sum(row => gradients[t][(row * width) + k]) * (halves ? 2 : 1);
                Assert.Equal(expected, columns[(t * width) + k], 1e-6);
            }
        }
    }

    [Theory]
    [DeviceMemberData(nameof(Columns))]
    public void ScaleColumns_Factors_AreThoseOfTheFeatureGradientsParts(string deviceName, RepresentationPlace place, GateSharing sharing, bool leak)
    {
        using Device device = Device.Open(deviceName);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 50, new Random(2));
        using MultiTaskModel model = Model(device, new() { Type = BalancerType.GradDrop, Place = place }, new() { Sharing = sharing });
        int width = model.GradientWidth;
        float[] keepSecond = [.. Enumerable.Range(0, 3 * width).Select(i => i / width == 1 ? leak ? 0.5f : 1f : 0f)];
        float[] expected = FeatureGradient(model, batch, [0, leak ? 0.5f : 1, 0]);
        float[] actual = FeatureGradient(model, batch, [1, 1, 1], keepSecond);
        for (int i = 0; i < expected.Length; i++)
            Assert.Equal(expected[i], actual[i], 1e-6);
    }

    /// <summary>Losses, weights and parameters after some steps, on the executor of the GPU's kernels as on the cpu; what is drawn at random is the same.</summary>
    [SimtTheory]
    [MemberData(nameof(EveryPlace))]
    public void Run_EveryBalancer_AgreesOnTheExecutor(BalancerType type, RepresentationPlace place)
    {
        const int steps = 4;
        BalancerDescription balancer = new() { Type = type, Place = place, Warmup = type == BalancerType.Stch ? 1 : null };
        (double[] Losses, double[] Weights, float[] Parameters) cpu = Train(TestDevices.Cpu), simt = Train(TestDevices.Simt);
        for (int i = 0; i < cpu.Losses.Length; i++)
        {
            Assert.Equal(cpu.Losses[i], simt.Losses[i], 1e-5 * Math.Max(1, cpu.Losses[i]));
            Assert.Equal(cpu.Weights[i], simt.Weights[i], 1e-3 * Math.Max(1, Math.Abs(cpu.Weights[i])));
        }

        // AdamW's first steps have the length of the rate whatever the gradient: a part of them is all that rounding may change.
        for (int i = 0; i < cpu.Parameters.Length; i++)
            Assert.Equal(cpu.Parameters[i], simt.Parameters[i], 1e-4);

        (double[] Losses, double[] Weights, float[] Parameters) Train(string deviceName)
        {
            using Device device = Device.Open(deviceName);
            using MultiTaskModel model = Model(device, balancer, new());
            Random random = new(5);
            TrainingStep step = new(model, steps);
            List<double> losses = [], weights = [];
            for (int i = 1; i <= steps; i++)
            {
                using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 21, random);
                step.Run(batch, i);
                step.Finish();
                losses.AddRange(step.Losses);
                weights.AddRange(step.Weights);
            }

            return ([.. losses], [.. weights], [.. model.Parameters.SelectMany(parameter => TestDevices.Read(model, parameter))]);
        }
    }

    [Theory]
    [DeviceData]
    public void ScaleColumns_SignedSums_TakeTheSignOfTheRepresentation(string deviceName)
    {
        using Device device = Device.Open(deviceName);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 50, new Random(2));
        using MultiTaskModel model = Model(device, new() { Type = BalancerType.GradDrop }, new());
        Forward(model, batch);
        model.BackwardTowers();
        int width = model.GradientWidth;
        double[] columns = new double[3 * width];
        model.ComputeColumns(ColumnKind.Signed, columns);
        double[] gradients = Values(model, model.RepresentationGradients);
        double[] representation = Values(model, model.Representations);
        Assert.Contains(representation, value => value < 0);
        for (int k = 0; k < 3 * width; k++)
            Assert.Equal(Enumerable.Range(0, 50).Sum(row => gradients[(row * 3 * width) + k] * Math.Sign(representation[(row * 3 * width) + k])), columns[k], 1e-9);
    }

    [Theory]
    [DeviceData]
    public void Heads_Scaled_MultiplyTheTowersGradientsByWeightsOfAnySign(string deviceName)
    {
        using Device device = Device.Open(deviceName);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 50, new Random(2));
        using MultiTaskModel model = Model(device, new() { Type = BalancerType.Mgda, Heads = HeadGradient.Scaled }, new());
        float[][] plain = Towers([1, 1, 1]);
        float[][] scaled = Towers([2, -0.5f, 0]);
        for (int t = 0; t < 3; t++)
            Assert.Equal(plain[t].Select(value => value * new[] { 2, -0.5f, 0 }[t]), scaled[t]);

        float[][] Towers(float[] weights)
        {
            Forward(model, batch);
            model.BackwardTowers();
            model.BackwardTrunk(weights, gramIsFresh: false);
            return [.. TestModels.BinaryTasks.Select(task => model.Parameters.Where(p => p.Name.StartsWith($"towers.{task.Name}.", StringComparison.Ordinal))
                .SelectMany(p => TestDevices.Read(model, p.Gradient, p.Count)).ToArray())];
        }
    }

    [Theory]
    [DeviceData]
    public void Run_Famo_ReportsTheLossesBeforeTheUpdate(string deviceName)
    {
        using Device device = Device.Open(deviceName);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 50, new Random(2));
        using MultiTaskModel model = Model(device, new() { Type = BalancerType.Famo }, new());
        model.Forward(batch);
        model.ComputeLosses();
        double[] before = [.. model.Losses];
        TrainingStep step = new(model, 10);
        step.Run(batch, 1);
        Assert.Equal(before, step.Losses.ToArray());
        double[] after = [.. model.Losses];
        Assert.True(after.Sum() < before.Sum());
        model.Forward(batch);
        model.ComputeLosses();
        Assert.Equal(after, model.Losses.ToArray());
    }
}
