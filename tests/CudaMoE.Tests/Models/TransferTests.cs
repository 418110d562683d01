using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;
using CudaMoE.Training;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Models;

/// <summary>Chains of tasks (AITM) against the double-precision reference, its finite differences, and what balancers see of them.</summary>
public sealed class TransferTests(ITestOutputHelper output)
{
    private static readonly ArchitectureDescription Aitm = new()
    {
        Type = ModelType.SingleTask,
        Bottom = [9, 6],
        Transfer = new(),
        Activation = ActivationKind.Tanh,
    };

    private static readonly Dictionary<string, (ArchitectureDescription Architecture, IReadOnlyList<TaskDescription> Tasks)> Architectures = new()
    {
        ["aitm"] = (Aitm, TestModels.BinaryTasks),
        ["aitm, towers, projection, gelu"] = (Aitm with { Projection = 8, Tower = [5], Activation = ActivationKind.Gelu, LayerNorm = true }, TestModels.BinaryTasks),
        ["aitm, two tasks of three, the later one told first"] = (Aitm with { Transfer = new() { Chain = ["share", "click"], Penalty = 2 } }, TestModels.BinaryTasks),
        ["aitm, mixed tasks without penalty"] = (Aitm with { Transfer = new() { Penalty = 0 } }, TestModels.MixedTasks),
        ["aitm, given tasks"] = (Aitm with { Transfer = new() { Chain = ["click", "like", "share"] } }, TestModels.GivenTasks),
        ["aitm, one column"] = (Aitm with { Bottom = [1] }, TestModels.BinaryTasks),
        ["mmoe"] = (Aitm with { Type = ModelType.Mmoe, Bottom = [], Experts = new() { Count = 4, Layers = [7] }, Gate = new() { ZLoss = 0.1f } }, TestModels.BinaryTasks),
        ["mmoe, top 2"] = (Aitm with { Type = ModelType.Mmoe, Bottom = [], Experts = new() { Count = 4, Layers = [5] }, Gate = new() { TopK = 2 } }, TestModels.BinaryTasks),
        ["adatt"] = (Aitm with { Type = ModelType.Adatt, Bottom = [], Experts = new() { Levels = [[6], [5]], PerTask = 2 }, Tower = [4], Activation = ActivationKind.Silu }, TestModels.BinaryTasks),
        ["cross_stitch"] = (Aitm with { Type = ModelType.CrossStitch, Bottom = [], Experts = new() { Levels = [[6]] } }, TestModels.BinaryTasks),
    };

    public static TheoryData<string> Cases => [.. Architectures.Keys];

    public static TheoryData<string> Balancers { get; } = [.. Enum.GetNames<BalancerType>()];

    [Theory]
    [DeviceMemberData(nameof(Cases))]
    public void Model_EveryParameter_MatchesReferenceForwardAndBackward(string deviceName, string name)
    {
        (ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks) = Architectures[name];
        using Case each = new(output, deviceName, architecture, tasks, new());
        each.Model.BackwardTrunk([], gramIsFresh: false);
        each.Model.Stream.Synchronize();
        ModelGradientTests.CheckLogits(each.Model, each.Reference, each.Batch);
        Assert.Equal(each.Auxiliary(), each.Model.AuxiliaryLoss, 1e-5);
        ModelGradientTests.CheckGradients(each.Model, each.Reference, () => each.Reference.Losses(each.Batch).Sum() + each.Auxiliary(), each.Random, samples: 12);
    }

    /// <summary>What is handed on counts as a constant then.</summary>
    [Theory]
    [DeviceData]
    public void Model_StoppedGradient_MatchesReferenceWithConstants(string deviceName)
    {
        using Case each = new(output, deviceName, Aitm with { Transfer = new() { StopGradient = true } }, TestModels.BinaryTasks, new());
        each.Model.BackwardTrunk([], gramIsFresh: false);
        each.Model.Stream.Synchronize();
        ModelGradientTests.CheckLogits(each.Model, each.Reference, each.Batch);
        each.Reference.KeepHandedOn(each.Batch);
        ModelGradientTests.CheckGradients(each.Model, each.Reference, () => each.Reference.Losses(each.Batch).Sum() + each.Reference.OrderPenalty(each.Batch), each.Random, samples: 20);
    }

    /// <summary>
    /// With weight 1 for one task and 0 for the others the features get the gradient of that task's loss and of the penalties that its probability takes part
    /// in, the others' being constants; the Gram matrix is that of these gradients where the balancer looks.
    /// </summary>
    [Theory]
    [DeviceData(RepresentationPlace.TowerInput)]
    [DeviceData(RepresentationPlace.TrunkInput)]
    public void Gradients_OfOneTask_AreThoseOfItsLossAndItsPenalties(string deviceName, RepresentationPlace place)
    {
        TrainingDescription training = new() { Balancer = new() { Type = BalancerType.MultiBalance, Place = place } };
        using Case each = new(output, deviceName, Aitm with { Projection = 8, Transfer = new() { Penalty = 3 } }, TestModels.BinaryTasks, training);
        MultiTaskModel model = each.Model;
        double[] gram = new double[9];
        model.ComputeGram(gram);
        float[][] places = new float[3][];
        double[][] constants = each.Reference.Probabilities(each.Batch);
        for (int task = 0; task < 3; task++)
        {
            Tensor towerInputs = model.RepresentationGradients;
            places[task] = TestDevices.Read(model, towerInputs.Slice(task * towerInputs.Columns / 3, towerInputs.Columns / 3));
            float[] weights = new float[3];
            weights[task] = 1;
            each.Forward();
            model.BackwardTowers();
            model.BackwardTrunk(weights, gramIsFresh: false);
            if (place == RepresentationPlace.TrunkInput)
                places[task] = TestDevices.Read(model, model.TrunkInputGradients);
            float[] table = model.EmbeddingGradients()[0];
            double[] values = each.Reference.Parameters["embeddings.user.weight"];
            double scale = Math.Max(1e-3, table.Max(Math.Abs));
            for (int i = 0; i < values.Length; i++)
                Assert.Equal(Difference(values, i, () => each.Reference.Losses(each.Batch)[task] + each.Reference.OrderPenalty(each.Batch, task, constants)), table[i], (1e-4 * scale) + 1e-6);
        }

        for (int i = 0; i < 3; i++)
        {
            for (int j = 0; j < 3; j++)
            {
                double expected = places[i].Zip(places[j], (a, b) => (double)a * b).Sum();
                Assert.Equal(expected, gram[(i * 3) + j], 1e-5 * Math.Sqrt(gram[i * 4] * gram[j * 4]));
            }
        }
    }

    /// <summary>The gradient of weighted tasks is the weighted sum of theirs, wherever the balancer looked, fresh or not.</summary>
    [Theory]
    [DeviceData(RepresentationPlace.TowerInput)]
    [DeviceData(RepresentationPlace.TrunkInput)]
    public void BackwardTrunk_Weights_AreLinear(string deviceName, RepresentationPlace place)
    {
        TrainingDescription training = new() { Balancer = new() { Type = BalancerType.Cagrad, Place = place } };
        using Case each = new(output, deviceName, Aitm, TestModels.BinaryTasks, training);
        float[] weights = [0.5f, 2f, 0.25f];
        double[]? sum = null;
        for (int task = 0; task < 3; task++)
        {
            float[] one = new float[3];
            one[task] = 1;
            double[] gradient = Array.ConvertAll(FeatureGradient(one, fresh: false), v => v * (double)weights[task]);
            sum = sum == null ? gradient : [.. sum.Zip(gradient, (a, b) => a + b)];
        }

        foreach (bool fresh in (bool[])[false, true])
        {
            float[] together = FeatureGradient(weights, fresh);
            double scale = sum!.Max(Math.Abs);
            for (int i = 0; i < together.Length; i++)
                Assert.Equal(sum![i], together[i], 1e-5 * scale);
        }

        float[] FeatureGradient(float[] taskWeights, bool fresh)
        {
            each.Forward();
            each.Model.BackwardTowers();
            if (fresh)
                each.Model.ComputeGram(new double[9]);
            each.Model.BackwardTrunk(taskWeights, fresh);
            return TestDevices.Read(each.Model, each.Model.FeatureGradients!.Value.Slice(0, TestModels.Layout.Sparse.Sum(s => s.Dimension)));
        }
    }

    [Theory]
    [MemberData(nameof(Balancers))]
    public void TrainingStep_EveryBalancer_LowersTheLosses(string balancer)
    {
        TrainingDescription training = new() { Seed = 3, Epochs = 1, Balancer = new() { Type = Enum.Parse<BalancerType>(balancer) }, Optimizer = new() { Type = OptimizerType.Adamw, LearningRate = 0.01f } };
        using Case each = new(output, TestDevices.Default, Aitm, TestModels.BinaryTasks, training);
        TrainingStep step = new(each.Model, totalSteps: 60);
        double first = 0;
        for (int i = 1; i <= 60; i++)
        {
            step.Run(each.Batch, i);
            step.Finish();
            if (i == 1)
                first = step.Losses.ToArray().Sum();
        }

        Assert.All(step.Weights.ToArray(), weight => Assert.True(double.IsFinite(weight)));
        Assert.True(step.Losses.ToArray().Sum() < first, $"{step.Losses.ToArray().Sum()} after 60 steps, {first} before");
    }

    [Theory]
    [DeviceData]
    public void Forward_NoRows_DoesNothingAndTheNextBatchIsRight(string deviceName)
    {
        using Case each = new(output, deviceName, Aitm, TestModels.BinaryTasks, new());
        using Batch none = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, rows: 0, each.Random);
        each.Model.Forward(none);
        each.Model.ComputeLosses();
        each.Model.BackwardTowers();
        each.Model.BackwardTrunk([], gramIsFresh: false);
        Assert.Equal(0, each.Model.AuxiliaryLoss);
        each.Forward();
        ModelGradientTests.CheckLogits(each.Model, each.Reference, each.Batch);
        Assert.Equal(each.Auxiliary(), each.Model.AuxiliaryLoss, 1e-5);
    }

    private static double Difference(double[] values, int i, Func<double> loss)
    {
        const double step = 1e-5;
        double saved = values[i];
        values[i] = saved + step;
        double up = loss();
        values[i] = saved - step;
        double down = loss();
        values[i] = saved;
        return (up - down) / (2 * step);
    }

    /// <summary>A model and a batch whose probabilities keep away from the kink of the penalty, so that differences see none.</summary>
    private sealed class Case : IDisposable
    {
        private const double Clear = 2e-4;
        private readonly Device _device;

        public Case(ITestOutputHelper output, string deviceName, ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks, TrainingDescription training)
        {
            int seed = Environment.TickCount;
            output.WriteLine($"seed {seed}");
            Random = new(seed);
            _device = Device.Open(deviceName);
            ModelDescription description = TestModels.Describe(architecture, tasks, training with { Seed = (ulong)(uint)seed });
            Model = new(_device, description, TestModels.Layout, TestModels.Outputs(tasks), maxRows: 40, training: true);
            ModelGradientTests.EnlargeEmbeddings(Model, Random);
            Reference = new(Model);
            do
            {
                Batch?.Dispose();
                Batch = TestModels.RandomBatch(TestModels.Layout, tasks, rows: 23, Random);
            }
            while (architecture.Transfer!.Penalty > 0 && Reference.Probabilities(Batch).Any(TooNear));
            Forward();
            Model.BackwardTowers();
        }

        public Random Random { get; }

        public MultiTaskModel Model { get; }

        public ReferenceModel Reference { get; }

        public Batch Batch { get; } = null!;

        public void Forward()
        {
            Model.Forward(Batch);
            Model.ComputeLosses();
        }

        public double Auxiliary()
        {
            long[] counts = Model.ExpertCounts.ToArray();
            return Reference.AuxiliaryLoss(Batch, counts.Length == 0 ? null : counts) + Reference.OrderPenalty(Batch);
        }

        public void Dispose()
        {
            Batch.Dispose();
            Model.Dispose();
            _device.Dispose();
        }

        private static bool TooNear(double[] p) => p.SelectMany((a, i) => p.Skip(i + 1).Select(b => Math.Abs(a - b))).Any(difference => difference < Clear);
    }
}
