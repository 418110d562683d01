using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Models;

/// <summary>Outputs and gradients of every model against the double-precision reference and its finite differences.</summary>
public sealed class ModelGradientTests(ITestOutputHelper output)
{
    private const double Step = 1e-5;

    public static TheoryData<string> Cases => [.. Architectures().Keys];

    [Theory]
    [DeviceMemberData(nameof(Cases))]
    public void Model_RandomBatch_MatchesReferenceForwardAndBackward(string deviceName, string name)
    {
        (ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks, BatchLayout layout) = Architectures()[name];
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        using Device device = Device.Open(deviceName);
        ModelDescription description = TestModels.Describe(architecture, tasks, new() { Seed = (ulong)(uint)seed });
        using MultiTaskModel model = new(device, description, layout, TestModels.Outputs(tasks), maxRows: 40, training: true);
        EnlargeEmbeddings(model, random);
        using Batch batch = TestModels.RandomBatch(layout, tasks, rows: 37, random);

        model.Forward(batch);
        model.ComputeLosses();
        model.BackwardTowers();
        model.BackwardTrunk([], gramIsFresh: false);
        model.Stream.Synchronize();

        ReferenceModel reference = new(model);
        CheckLogits(model, reference, batch);
        double[] losses = reference.Losses(batch);
        for (int t = 0; t < tasks.Count; t++)
            Assert.Equal(losses[t], model.Losses[t], 1e-5 * Math.Max(1, Math.Abs(losses[t])));
        long[] counts = model.ExpertCounts.ToArray();
        IReadOnlyList<long>? constant = counts.Length == 0 ? null : counts;
        Assert.Equal(reference.AuxiliaryLoss(batch, constant), model.AuxiliaryLoss, 1e-5);

        CheckGradients(model, reference, () => reference.Losses(batch).Sum() + reference.AuxiliaryLoss(batch, constant), random, samples: 12);
    }

    /// <summary>Some elements of the gradient of every parameter, tables included, against central differences of the reference.</summary>
    internal static void CheckGradients(MultiTaskModel model, ReferenceModel reference, Func<double> loss, Random random, int samples) =>
        CheckGradients(model, reference.Parameters, loss, random, samples);

    /// <summary>The same against any reference whose parameters are those arrays.</summary>
    internal static void CheckGradients(MultiTaskModel model, IReadOnlyDictionary<string, double[]> reference, Func<double> loss, Random random, int samples)
    {
        IReadOnlyList<float[]> tables = model.EmbeddingGradients();
        int table = 0;
        foreach (Parameter parameter in model.Parameters)
        {
            if (parameter.Kind == ParameterKind.Frozen)
                continue;
            float[] gradient = parameter.Kind == ParameterKind.Embedding ? tables[table++] : TestDevices.Read(model, parameter.Gradient, parameter.Count);
            CheckGradient(reference, parameter, gradient, loss, random, samples);
        }
    }

    internal static void EnlargeEmbeddings(MultiTaskModel model, Random random)
    {
        foreach (Parameter parameter in model.Parameters.Where(p => p.Kind == ParameterKind.Embedding))
            TestDevices.Write(model, parameter, [.. Enumerable.Range(0, (int)parameter.Count).Select(_ => (float)(random.NextDouble() - 0.5))]);
    }

    internal static void CheckLogits(MultiTaskModel model, ReferenceModel reference, Batch batch, double tolerance = 2e-5)
    {
        double[][] expected = reference.Logits(batch);
        float[][] logits = [.. Enumerable.Range(0, model.Outputs.Count).Select(t => TestDevices.Read(model, model.Logits(t)))];
        for (int row = 0; row < batch.Rows; row++)
        {
            int column = 0;
            for (int t = 0; t < model.Outputs.Count; t++)
            {
                for (int c = 0; c < model.Outputs[t]; c++, column++)
                    Assert.Equal(expected[row][column], logits[t][(row * model.Outputs[t]) + c], tolerance);
            }
        }
    }

    internal static void CheckGradient(ReferenceModel reference, Parameter parameter, float[] gradient, Func<double> loss, Random random, int samples) =>
        CheckGradient(reference.Parameters, parameter, gradient, loss, random, samples);

    private static void CheckGradient(IReadOnlyDictionary<string, double[]> reference, Parameter parameter, float[] gradient, Func<double> loss, Random random, int samples)
    {
        double[] values = reference[parameter.Name];
        double scale = Math.Max(1e-3, gradient.Max(Math.Abs));
        foreach (int i in Enumerable.Range(0, values.Length).OrderBy(_ => random.Next()).Take(samples))
        {
            double expected = Difference(i, Step);
            // Where a gate's choice changes within the step there is no derivative; a smaller one does not reach it.
            if (!Near(expected, gradient[i]))
                expected = Difference(i, Step / 100);
            Assert.True(Near(expected, gradient[i]), $"{parameter.Name}[{i}]: gradient {gradient[i]}, finite difference {expected}");
        }

        bool Near(double expected, double actual) => Math.Abs(expected - actual) <= (1e-4 * scale) + 1e-6;

        double Difference(int i, double step)
        {
            double saved = values[i];
            values[i] = saved + step;
            double up = loss();
            values[i] = saved - step;
            double down = loss();
            values[i] = saved;
            return (up - down) / (2 * step);
        }
    }

    private static Dictionary<string, (ArchitectureDescription Architecture, IReadOnlyList<TaskDescription> Tasks, BatchLayout Layout)> Architectures()
    {
        ExpertsDescription experts = new() { Count = 5, Layers = [6] };
        ExpertsDescription deep = new() { Count = 4, Layers = [7, 5] };
        BatchLayout layout = TestModels.Layout;
        IReadOnlyList<TaskDescription> binary = TestModels.BinaryTasks;
        IReadOnlyList<TaskDescription> mixed = TestModels.MixedTasks;
        // Smooth activations, so that finite differences see no kinks; the kinks of ReLU are tested with the products.
        ArchitectureDescription tanh = new() { Type = ModelType.Mmoe, Experts = experts, Tower = [4], Activation = ActivationKind.Tanh };
        return new()
        {
            ["shared bottom"] = (tanh with { Type = ModelType.SharedBottom, Experts = null, Bottom = [9, 6] }, binary, layout),
            ["shared bottom, mixed tasks"] = (tanh with { Type = ModelType.SharedBottom, Experts = null, Bottom = [9], Activation = ActivationKind.Silu }, mixed, layout),
            ["shared bottom without layers"] = (tanh with { Type = ModelType.SharedBottom, Experts = null, Projection = 8 }, binary, layout),
            ["single task"] = (tanh with { Type = ModelType.SingleTask, Experts = null, Bottom = [8, 5] }, binary, layout),
            ["single task, mixed"] = (tanh with { Type = ModelType.SingleTask, Experts = null, Bottom = [8], Activation = ActivationKind.Gelu, LayerNorm = true }, mixed, layout),
            ["mmoe"] = (tanh, binary, layout),
            ["mmoe, given tasks"] = (tanh, TestModels.GivenTasks, layout),
            ["single task, given tasks"] = (tanh with { Type = ModelType.SingleTask, Experts = null, Bottom = [8] }, TestModels.GivenTasks, layout),
            ["mmoe, projection, norm"] = (tanh with { Projection = 10, LayerNorm = true, Activation = ActivationKind.Silu }, binary, layout),
            ["mmoe, deep experts, no tower"] = (tanh with { Experts = deep, Tower = [], Projection = 8 }, binary, layout),
            ["mmoe, mixed tasks, z loss"] = (tanh with { Gate = new() { ZLoss = 0.1f } }, mixed, layout),
            ["mmoe, sigmoid gates"] = (tanh with { Gate = new() { Score = ScoreMode.Sigmoid, Renormalize = true, Bias = false } }, binary, layout),
            ["mmoe, shared gate"] = (tanh with { Gate = new() { Sharing = GateSharing.Shared } }, binary, layout),
            ["mmoe, sequences"] = (tanh, binary, TestModels.SequenceLayout),
            ["shared bottom, sequences without layers"] = (tanh with { Type = ModelType.SharedBottom, Experts = null }, binary, TestModels.SequenceLayout),
            ["mmoe, only dense features"] = (tanh with { Projection = 8 }, binary, TestModels.DenseLayout),
            ["top 2"] = (tanh with { Gate = new() { TopK = 2, BalanceLoss = 0.2f, ZLoss = 0.05f } }, binary, layout),
            ["top 2, renormalised, deep, projection"] = (tanh with { Experts = deep, Projection = 8, Gate = new() { TopK = 2, Renormalize = true } }, mixed, layout),
            ["top 3, softmax over the chosen, shared gate"] = (tanh with { Gate = new() { TopK = 3, Score = ScoreMode.TopkSoftmax, Sharing = GateSharing.Shared, BalanceLoss = 0.1f } }, binary, layout),
            ["top 2, sigmoid"] = (tanh with { Projection = 9, Gate = new() { TopK = 2, Score = ScoreMode.Sigmoid, Renormalize = true } }, binary, layout),
            ["top 1, capacity"] = (tanh with { Gate = new() { TopK = 1, CapacityFactor = 0.7 } }, binary, layout),
            ["top 2, capacity, choice major"] = (tanh with { Gate = new() { TopK = 2, CapacityFactor = 0.6, Order = RoutingOrder.ChoiceMajor } }, binary, layout),
            ["top 2, capacity, priority, silu"] = (tanh with { Activation = ActivationKind.Silu, Projection = 9, Gate = new() { TopK = 2, CapacityFactor = 0.6, Order = RoutingOrder.Priority } }, binary, layout),
        };
    }
}
