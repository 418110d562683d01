using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Models;
using CudaMoE.Training;

namespace CudaMoE.Tests.Training;

/// <summary>What one step promises: no managed memory, and gradients balanced as the balancer says.</summary>
public sealed class TrainingStepTests
{
    [Theory]
    [InlineData(BalancerType.Equal, false)]
    [InlineData(BalancerType.MultiBalance, false)]
    [InlineData(BalancerType.MultiBalance, true)]
    public void Run_SteadyState_AllocatesNoManagedMemory(BalancerType balancer, bool sparse)
    {
        using Device device = Device.Open("cpu:threads=2");
        using MultiTaskModel model = Model(device, new() { Type = balancer }, sparse ? new() { TopK = 2 } : new());
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 64, new Random(1));
        TrainingStep step = new(model, 100);
        for (int i = 1; i <= 50; i++)
            step.Run(batch, i);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 51; i <= 100; i++)
            step.Run(batch, i);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Theory]
    [InlineData(RepresentationPlace.TowerInput, GateSharing.PerTask)]
    [InlineData(RepresentationPlace.TowerInput, GateSharing.Shared)]
    [InlineData(RepresentationPlace.TrunkInput, GateSharing.PerTask)]
    public void Gram_EveryPlace_MatchesGradientsOfSingleTasks(RepresentationPlace place, GateSharing sharing)
    {
        using Device device = Device.Open("cpu:threads=2");
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
    [InlineData(RepresentationPlace.TowerInput, GateSharing.PerTask)]
    [InlineData(RepresentationPlace.TowerInput, GateSharing.Shared)]
    [InlineData(RepresentationPlace.TrunkInput, GateSharing.PerTask)]
    public void BackwardTrunk_Weights_ScaleEachTasksPartOfTheFeatureGradient(RepresentationPlace place, GateSharing sharing)
    {
        using Device device = Device.Open("cpu:threads=2");
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

    private static MultiTaskModel Model(Device device, BalancerDescription balancer, GateDescription gate)
    {
        ArchitectureDescription architecture = new()
        {
            Type = ModelType.Mmoe,
            Projection = 12,
            Experts = new() { Count = 5, Layers = [7] },
            Gate = gate,
            Tower = [4],
            Activation = ActivationKind.Tanh,
        };
        ModelDescription description = TestModels.Describe(architecture, TestModels.BinaryTasks, new() { Seed = 9, Balancer = balancer });
        return new(device, description, TestModels.Layout, [1, 1, 1], 64, training: true);
    }

    private static void Forward(MultiTaskModel model, Batch batch)
    {
        model.Forward(batch);
        model.ComputeLosses();
    }

    /// <summary>The gradient of one task's loss at the place, flattened.</summary>
    private static double[] TaskGradient(MultiTaskModel model, Batch batch, int task, RepresentationPlace place, GateSharing sharing)
    {
        Forward(model, batch);
        model.BackwardTowers();
        if (place == RepresentationPlace.TowerInput && sharing == GateSharing.PerTask)
        {
            Tensor all = model.RepresentationGradients;
            return Values(all.Slice(task * all.Columns / 3, all.Columns / 3));
        }

        float[] weights = new float[3];
        weights[task] = 1;
        model.BackwardTrunk(weights, gramIsFresh: false);
        return Values(place == RepresentationPlace.TowerInput ? model.RepresentationGradients : model.TrunkInputGradients);
    }

    private static unsafe double[] Values(Tensor tensor)
    {
        List<double> values = [];
        for (int row = 0; row < tensor.Rows; row++)
        {
            for (int column = 0; column < tensor.Columns; column++)
                values.Add(((float*)tensor.Pointer)[(row * tensor.RowStride) + column]);
        }

        return [.. values];
    }

    private static unsafe float[] FeatureGradient(MultiTaskModel model, Batch batch, float[] weights)
    {
        Forward(model, batch);
        model.BackwardTowers();
        model.ComputeGram(new double[9]);
        model.BackwardTrunk(weights, gramIsFresh: true);
        Tensor gradient = model.FeatureGradients!.Value;
        List<float> values = [];
        for (int row = 0; row < gradient.Rows; row++)
        {
            // The columns behind the tables belong to dense features, whose gradient nobody needs.
            for (int column = 0; column < TestModels.Layout.Sparse.Sum(s => s.Dimension); column++)
                values.Add(((float*)gradient.Pointer)[(row * gradient.RowStride) + column]);
        }

        return [.. values];
    }
}
