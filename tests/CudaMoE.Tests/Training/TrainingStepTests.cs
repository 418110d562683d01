using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Models;
using CudaMoE.Tests.Support;
using CudaMoE.Training;
using static CudaMoE.Tests.Training.BalancedModel;

namespace CudaMoE.Tests.Training;

/// <summary>What one step promises: no managed memory, and gradients balanced as the balancer says.</summary>
public sealed class TrainingStepTests
{
    public static TheoryData<Precision> Precisions => [.. Enum.GetValues<Precision>()];

    [Theory]
    [DeviceData(BalancerType.Equal, false)]
    [DeviceData(BalancerType.MultiBalance, false)]
    [DeviceData(BalancerType.MultiBalance, true)]
    public void Run_SteadyState_AllocatesNoManagedMemory(string deviceName, BalancerType balancer, bool sparse)
    {
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = Model(device, new() { Type = balancer }, sparse ? new() { TopK = 2 } : new());
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 64, new Random(1));
        BalancedModel.CheckNoManagedMemory(model, batch, deviceName);
    }

    /// <summary>Sparse gates, routing, experts, balancing and updates: on the executor in another order of warps, blocks and copies each time.</summary>
    [Theory]
    [DeviceMemberData(nameof(Precisions))]
    public void Run_TwentyTimes_GivesTheSameBits(string deviceName, Precision precision)
    {
        int[] Bits(int turn)
        {
            using Device device = Device.Open(deviceName == TestDevices.Simt ? $"simt:order=random,copies=random,seed={turn}" : deviceName);
            using MultiTaskModel model = Model(device, new() { Type = BalancerType.MultiBalance }, new() { TopK = 2, CapacityFactor = 1.25 }, precision);
            using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 40, new Random(8));
            TrainingStep step = new(model, 3);
            for (int i = 1; i <= 3; i++)
                step.Run(batch, i);
            step.Finish();
            float[] values = [.. model.Losses.ToArray().Select(loss => (float)loss), .. model.Parameters.SelectMany(p => TestDevices.Read(model, p))];
            return [.. values.Select(BitConverter.SingleToInt32Bits)];
        }

        int[] expected = Bits(1);
        for (int turn = 2; turn <= 20; turn++)
            Assert.Equal(expected, Bits(turn));
    }

    [Theory]
    [DeviceData(1)]
    [DeviceData(3)]
    [DeviceData(100)]
    public void Run_QueuedSteps_GiveTheLossesOfStepByStep(string deviceName, int finishEvery)
    {
        const int steps = (2 * LayerContext.StepsAhead) + 3;
        double[] Totals(int every)
        {
            using Device device = Device.Open(deviceName);
            using MultiTaskModel model = Model(device, new(), new());
            TrainingStep step = new(model, steps);
            Random random = new(4);
            for (int i = 1; i <= steps; i++)
            {
                // Refilled as soon as the step is queued: another batch each time, its memory freed.
                using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 10 + i, random);
                step.Run(batch, i);
                if (i % every == 0)
                    step.Finish();
            }

            step.Finish();
            return [.. step.Totals.Sums, .. step.Totals.Weights, .. step.Losses];
        }

        double[] expected = Totals(1);
        Assert.All(expected, value => Assert.True(double.IsFinite(value) && value > 0));
        Assert.Equal(expected, Totals(finishEvery));
    }

    [Theory]
    [DeviceData(RepresentationPlace.TowerInput, GateSharing.PerTask)]
    [DeviceData(RepresentationPlace.TowerInput, GateSharing.Shared)]
    [DeviceData(RepresentationPlace.TrunkInput, GateSharing.PerTask)]
    public void Gram_EveryPlace_MatchesGradientsOfSingleTasks(string deviceName, RepresentationPlace place, GateSharing sharing)
    {
        using Device device = Device.Open(deviceName);
        GateDescription gate = new() { Sharing = sharing };
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 50, new Random(2));
        using MultiTaskModel model = Model(device, new() { Type = BalancerType.Mgda, Place = place }, gate);
        double[] gram = new double[9];
        Forward(model, batch);
        model.BackwardTowers();
        model.ComputeGram(gram);

        double[][] gradients = [.. Enumerable.Range(0, 3).Select(t => TaskGradient(model, batch, t, place, sharing))];
        for (int i = 0; i < 3; i++)
        {
            for (int j = 0; j < 3; j++)
            {
                double expected = gradients[i].Zip(gradients[j], (a, b) => a * b).Sum();
                double scale = Math.Sqrt(gradients[i].Sum(v => v * v) * gradients[j].Sum(v => v * v));
                Assert.True(scale > 0);
                Assert.Equal(expected, gram[(i * 3) + j], 1e-5 * scale);
            }
        }
    }

    [Theory]
    [DeviceData(RepresentationPlace.TowerInput, GateSharing.PerTask)]
    [DeviceData(RepresentationPlace.TowerInput, GateSharing.Shared)]
    [DeviceData(RepresentationPlace.TrunkInput, GateSharing.PerTask)]
    public void BackwardTrunk_Weights_ScaleEachTasksPartOfTheFeatureGradient(string deviceName, RepresentationPlace place, GateSharing sharing)
    {
        using Device device = Device.Open(deviceName);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 50, new Random(2));
        using MultiTaskModel model = Model(device, new() { Type = BalancerType.Mgda, Place = place }, new() { Sharing = sharing });
        float[] weights = [0.7f, 1.9f, 0.2f];
        float[][] parts = [.. Enumerable.Range(0, 3).Select(t => FeatureGradient(model, batch, [.. Enumerable.Range(0, 3).Select(i => i == t ? 1f : 0f)]))];
        float[] combined = FeatureGradient(model, batch, weights);
        for (int i = 0; i < combined.Length; i++)
        {
            double expected = parts.Select((p, t) => (double)p[i] * weights[t]).Sum();
            Assert.Equal(expected, combined[i], 1e-6);
        }
    }

    [Theory]
    [InlineData(ScheduleType.Constant, 1.0)]
    [InlineData(ScheduleType.Linear, 0.55)]
    [InlineData(ScheduleType.Cosine, 0.55)]
    [InlineData(ScheduleType.Step, 0.25)]
    [InlineData(ScheduleType.Exponential, 0.17677669529663687)]
    public void Schedule_HalfWay_HasItsFactor(ScheduleType type, double expected)
    {
        ScheduleDescription schedule = new() { Type = type, WarmupSteps = 10, FinalFactor = 0.1, DecaySteps = 20, DecayFactor = 0.5 };
        Assert.Equal(0.5, LearningRateSchedule.Factor(schedule, 5, 110), 1e-12);
        Assert.Equal(1.0, LearningRateSchedule.Factor(schedule, 10, 110), 1e-12);
        Assert.Equal(expected, LearningRateSchedule.Factor(schedule, 60, 110), 1e-12);
    }
}
