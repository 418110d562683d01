using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Models;
using CudaMoE.Tests.Support;
using CudaMoE.Training;

namespace CudaMoE.Tests.Training;

/// <summary>A small MMoE of three tasks, and the gradients that tests of steps and balancers compare; read by copies, so on any device.</summary>
internal static class BalancedModel
{
    public static MultiTaskModel Model(Device device, BalancerDescription balancer, GateDescription gate, Precision precision = Precision.F32)
    {
        ArchitectureDescription architecture = new()
        {
            Type = ModelType.Mmoe,
            Projection = 12,
            Experts = new() { Count = 5, Layers = [7] },
            Gate = gate,
            Tower = [4],
            Activation = ActivationKind.Tanh,
            Precision = precision,
        };
        ModelDescription description = TestModels.Describe(architecture, TestModels.BinaryTasks, new() { Seed = 9, Balancer = balancer });
        return new(device, description, TestModels.Layout, [1, 1, 1], 64, training: true);
    }

    /// <summary>Once warm, a step allocates no managed memory.</summary>
    public static void CheckNoManagedMemory(MultiTaskModel model, Batch batch, string deviceName)
    {
        const int Windows = 3;
        int steps = deviceName == TestDevices.Simt ? 2 * LayerContext.StepsAhead : 50;
        TrainingStep step = new(model, (Windows + 1) * steps);
        long done = 0;
        Run();
        // The runtime may allocate for the thread once, when it compiles code anew; a step that allocates does so in every window.
        long allocated = long.MaxValue;
        for (int window = 0; window < Windows && allocated != 0; window++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            Run();
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        }

        Assert.Equal(0, allocated);

        void Run()
        {
            for (int i = 0; i < steps; i++)
                step.Run(batch, ++done);
        }
    }

    public static void Forward(MultiTaskModel model, Batch batch)
    {
        model.Forward(batch);
        model.ComputeLosses();
    }

    /// <summary>The gradient of one task's loss at the place, flattened.</summary>
    public static double[] TaskGradient(MultiTaskModel model, Batch batch, int task, RepresentationPlace place, GateSharing sharing)
    {
        Forward(model, batch);
        model.BackwardTowers();
        if (place == RepresentationPlace.TowerInput && sharing == GateSharing.PerTask)
        {
            Tensor all = model.RepresentationGradients;
            return Values(model, all.Slice(task * all.Columns / 3, all.Columns / 3));
        }

        float[] weights = new float[3];
        weights[task] = 1;
        model.BackwardTrunk(weights, gramIsFresh: false);
        return Values(model, place == RepresentationPlace.TowerInput ? model.RepresentationGradients : model.TrunkInputGradients);
    }

    public static double[] Values(MultiTaskModel model, Tensor tensor) => Array.ConvertAll(TestDevices.Read(model, tensor), value => (double)value);

    public static float[] FeatureGradient(MultiTaskModel model, Batch batch, float[] weights, float[]? columns = null)
    {
        Forward(model, batch);
        model.BackwardTowers();
        model.ComputeGram(new double[9]);
        if (columns != null)
            model.ScaleColumns(columns);
        model.BackwardTrunk(weights, gramIsFresh: true);
        // The columns behind the tables belong to dense features, whose gradient nobody needs.
        return TestDevices.Read(model, model.FeatureGradients!.Value.Slice(0, TestModels.Layout.Sparse.Sum(s => s.Dimension)));
    }
}
