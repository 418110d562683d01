using CudaMoE.Balancing;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Models;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Training;

/// <summary>
/// What balancers keep and compare of gradients of shared parameters, against plain arithmetic in double on the gradients of single tasks, tables as dense matrices. The model's gates
/// before the towers belong to single tasks.
/// </summary>
public sealed class SharedVectorsTests(ITestOutputHelper output)
{
    private const int Rows = 23;

    /// <summary>Averages over steps, among them a rate of 1, steps without one task, and factors that make the tables' own factor small.</summary>
    [Theory]
    [DeviceData]
    public void Track_SomeSteps_GivesProductsOfTheAverages(string deviceName)
    {
        Random random = Seeded();
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = Build(device, BalancerType.DbMtl);
        using MultiTaskModel other = Build(device, BalancerType.Mgda);
        IGradientVectors vectors = model.GradientVectors!;
        double[][] kept = [[], [], []];
        for (int step = 0; step < 7; step++)
        {
            using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, Rows, random);
            double[][] gradients = [.. Enumerable.Range(0, 3).Select(t => Gradient(other, batch, t))];
            Gram(model, batch);
            double[] keep = [step == 0 ? 0 : 0.7, step == 3 ? 0 : 0.05, step == 2 ? 1 : 0.9];
            double[] rates = [0.3 + random.NextDouble(), 2, step == 2 ? 0 : 0.1];
            vectors.Track(keep, rates);
            for (int t = 0; t < 3; t++)
            {
                double[] before = kept[t].Length == 0 ? new double[gradients[t].Length] : kept[t];
                kept[t] = [.. before.Zip(gradients[t], (y, g) => (keep[t] * y) + (rates[t] * g))];
                Near(Norm(gradients[t]), vectors.Length(t), Norm(gradients[t]));
            }

            for (int i = 0; i < 9; i++)
                Near(Dot(kept[i / 3], kept[i % 3]), vectors.TrackedProduct(i / 3, i % 3), Norm(kept[i / 3]) * Norm(kept[i % 3]));
        }
    }

    /// <summary>Sums of squares over more steps than there are between two clearings of the tables' vectors, but on the executor.</summary>
    [Theory]
    [DeviceData]
    public void AddSquares_SomeSteps_GivesSquaresOverRootsOfTheirSums(string deviceName)
    {
        int steps = deviceName == TestDevices.Simt ? 5 : 70;
        Random random = Seeded();
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = Build(device, BalancerType.ExcessMtl);
        using MultiTaskModel other = Build(device, BalancerType.Mgda);
        double[][] squares = [[], [], []];
        double[] sums = new double[3];
        for (int step = 0; step < steps; step++)
        {
            using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, Rows, random);
            Gram(model, batch);
            double[] factors = [1, 0.25, step == 1 ? 0 : 3];
            model.GradientVectors!.AddSquares(factors, sums);
            for (int t = 0; t < 3; t++)
            {
                double[] gradient = Gradient(other, batch, t);
                double[] before = squares[t].Length == 0 ? new double[gradient.Length] : squares[t];
                squares[t] = [.. before.Zip(gradient, (s, g) => s + (factors[t] * g * factors[t] * g))];
                double expected = squares[t].Zip(gradient, (s, g) => s > 0 ? factors[t] * g * factors[t] * g / Math.Sqrt(s) : 0).Sum();
                Near(expected, sums[t], factors[t] == 0 ? 1 : expected);
            }
        }
    }

    [Theory]
    [DeviceData]
    public void HalfProducts_EvenAndOddRows_AreThoseOfBatchesWithoutTheOthersLabels(string deviceName)
    {
        Random random = Seeded();
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = Build(device, BalancerType.Modo);
        using MultiTaskModel other = Build(device, BalancerType.Mgda);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, Rows, random);
        double[][] whole = [.. Enumerable.Range(0, 3).Select(t => Gradient(other, batch, t))];
        double[] rowWeights = other.LossWeights.ToArray();
        double[] gram = Gram(model, batch);
        double[] products = new double[9];
        model.GradientVectors!.HalfProducts(products);
        double[][][] halves = [.. Enumerable.Range(0, 2).Select(half => Enumerable.Range(0, 3).Select(t =>
        {
            float[] labels = batch.Labels(t)[..Rows].ToArray();
            for (int row = 0; row < Rows; row++)
                batch.Labels(t)[row] = row % 2 == half ? labels[row] : float.NaN;
            double[] gradient = Gradient(other, batch, t);

            // The loss is a mean over the labelled rows, so a half's is too large by the weight of the other rows.
            double share = other.LossWeights[t] / rowWeights[t];
            gradient = [.. gradient.Select(value => value * share)];
            labels.CopyTo(batch.Labels(t));
            return gradient;
        }).ToArray())];
        for (int i = 0; i < 9; i++)
        {
            (int first, int second) = (i / 3, i % 3);
            Near(Dot(whole[first], whole[second]), gram[i], Norm(whole[first]) * Norm(whole[second]));
            Near(4 * Dot(halves[0][first], halves[1][second]), products[i], 4 * Norm(halves[0][first]) * Norm(halves[1][second]));
        }
    }

    /// <summary>Whatever is kept beside them, the weighted sum of the gradients is the same as with the Gram matrix alone.</summary>
    [Theory]
    [DeviceData(BalancerType.Modo)]
    [DeviceData(BalancerType.Moco)]
    [DeviceData(BalancerType.ExcessMtl)]
    public void BackwardTrunk_Weights_GiveTheSumThatTheGramMatrixAloneGives(string deviceName, BalancerType type)
    {
        Random random = Seeded();
        using Device device = Device.Open(deviceName);
        GateDescription gate = new() { TopK = 2, BalanceLoss = 0.1f, ZLoss = 0.01f };
        using MultiTaskModel model = Build(device, type, gate);
        using MultiTaskModel other = Build(device, BalancerType.Mgda, gate);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, Rows, random);
        double[][] gradients = [.. new[] { other, model }.Select(each =>
        {
            Gram(each, batch);
            each.BackwardTrunk([0.7f, 1.9f, 0.2f], gramIsFresh: true);
            return Below(each, shared: false);
        })];
        double scale = gradients[0].Max(Math.Abs);
        Assert.True(scale > 0);
        for (int i = 0; i < gradients[0].Length; i++)
            Near(gradients[0][i], gradients[1][i], scale);
    }

    private Random Seeded()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        return new(seed);
    }

    private static MultiTaskModel Build(Device device, BalancerType type, GateDescription? gate = null)
    {
        ArchitectureDescription architecture = new()
        {
            Type = ModelType.Mmoe,
            Projection = 8,
            Experts = new() { Count = 3, Layers = [5] },
            Gate = gate ?? new(),
            Tower = [4],
            Activation = ActivationKind.Tanh,
        };
        ModelDescription description = TestModels.Describe(architecture, TestModels.BinaryTasks, new() { Seed = 9, Balancer = new() { Type = type, Place = RepresentationPlace.SharedParameters } });
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

    /// <summary>The gradient of one task's loss of all that is shared.</summary>
    private static double[] Gradient(MultiTaskModel model, Batch batch, int task)
    {
        BalancedModel.Forward(model, batch);
        model.BackwardTowers();
        model.BackwardTrunk([.. Enumerable.Range(0, 3).Select(t => t == task ? 1f : 0f)], gramIsFresh: false);
        return Below(model, shared: true);
    }

    private static double[] Below(MultiTaskModel model, bool shared)
    {
        IReadOnlyList<float[]> tables = model.EmbeddingGradients();
        int table = 0;
        return
        [
            .. model.Parameters
                .Where(p => !p.Name.StartsWith("towers.", StringComparison.Ordinal) && !(shared && p.Name.StartsWith("gate.", StringComparison.Ordinal)))
                .SelectMany(p => p.Kind == ParameterKind.Embedding ? tables[table++] : TestDevices.Read(model, p.Gradient, p.Count))
                .Select(value => (double)value),
        ];
    }

    private static double Dot(double[] a, double[] b) => a.Zip(b, (x, y) => x * y).Sum();

    private static double Norm(double[] a) => Math.Sqrt(Dot(a, a));

    private static void Near(double expected, double actual, double scale) =>
        Assert.True(Math.Abs(expected - actual) <= 2e-5 * scale, $"{actual}, expected {expected}, scale {scale}");
}
