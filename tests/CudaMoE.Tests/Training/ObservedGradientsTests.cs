using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Models;
using CudaMoE.Tests.Support;
using CudaMoE.Training;

namespace CudaMoE.Tests.Training;

/// <summary>Looks at gradients where the balancer takes none, and what is told of pairs of tasks.</summary>
public sealed class ObservedGradientsTests
{
    [Theory]
    [DeviceData(BalancerType.Equal, RepresentationPlace.TowerInput)]
    [DeviceData(BalancerType.Equal, RepresentationPlace.TrunkInput)]
    [DeviceData(BalancerType.Equal, RepresentationPlace.SharedParameters)]
    [DeviceData(BalancerType.Static, RepresentationPlace.SharedParameters)]
    [DeviceData(BalancerType.Dwa, RepresentationPlace.TrunkInput)]
    [DeviceData(BalancerType.Uw, RepresentationPlace.SharedParameters)]
    [DeviceData(BalancerType.Famo, RepresentationPlace.TowerInput)]
    public void Run_Observed_LeavesTheBitsOfTheTrainingAndSeesTheCosinesOfABalancer(string deviceName, BalancerType type, RepresentationPlace place)
    {
        using Device device = Device.Open(deviceName);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 40, new Random(3));
        using MultiTaskModel plain = BalancedModel.Model(device, new() { Type = type }, new());
        using MultiTaskModel observed = BalancedModel.Model(device, new() { Type = type, ObserveEvery = 3, Place = place }, new());
        using MultiTaskModel balanced = BalancedModel.Model(device, new() { Type = BalancerType.Mgda, Place = place }, new());
        TrainingStep first = new(plain, 9), second = new(observed, 9), third = new(balanced, 9);
        third.Run(batch, 1);
        for (int step = 1; step <= 9; step++)
        {
            first.Run(batch, step);
            second.Run(batch, step);
            Assert.False(first.HasGram);
            Assert.Equal(step % 3 == 1, second.HasGram);
            Assert.Equal(first.Weights.ToArray(), second.Weights.ToArray());
            if (step == 1)
            {
                for (int i = 0; i < 9; i++)
                    Assert.Equal(third.Cosines[i], second.Cosines[i], 1e-6);
            }
        }

        Assert.Equal(first.Losses.ToArray(), second.Losses.ToArray());
        foreach ((Parameter expected, Parameter actual) in plain.Parameters.Zip(observed.Parameters))
            Assert.Equal(TestDevices.Read(plain, expected), TestDevices.Read(observed, actual));
        IReadOnlyList<TaskPair> pairs = second.Pairs.Pairs(["a", "b", "c"])!;
        Assert.Equal([("a", "b", 3L), ("a", "c", 3L), ("b", "c", 3L)], pairs.Select(pair => (pair.First, pair.Second, pair.Steps)));
        Assert.All(pairs, pair => Assert.InRange(pair.MeanCosine, -1, 1));
    }

    [Fact]
    public void Run_ObservedSteps_AllocateNoManagedMemory()
    {
        using Device device = Device.Open(TestDevices.Default);
        using Batch batch = TestModels.RandomBatch(TestModels.Layout, TestModels.BinaryTasks, 40, new Random(3));
        using MultiTaskModel model = BalancedModel.Model(device, new() { ObserveEvery = 2, Place = RepresentationPlace.SharedParameters }, new());
        BalancedModel.CheckNoManagedMemory(model, batch, TestDevices.Default);
    }

    [Fact]
    public void Look_TasksWithoutAGradient_HaveNoCosine()
    {
        GradientObserver observer = new(5, tasks: 3);
        Assert.Equal([true, false, true], new long[] { 0, 4, 10 }.Select(observer.IsDue));
        observer.Look([4, -3, 0, -3, 9, 0, 0, 0, 0], [true, true, true]);
        Assert.Equal([2, 3, 0], observer.Norms.ToArray());
        Assert.Equal([1, -0.5, double.NaN, -0.5, 1, double.NaN, double.NaN, double.NaN, double.NaN], observer.Cosines.ToArray());
        observer.Look([4, -3, 1, -3, 9, 1, 1, 1, 1], [true, false, true]);
        Assert.Equal([1, double.NaN, 0.5, double.NaN, double.NaN, double.NaN, 0.5, double.NaN, 1], observer.Cosines.ToArray());
        observer.Look([4, double.NaN, 1, double.NaN, double.NaN, 1, 1, 1, 1], [true, true, true]);
        Assert.Equal([1, double.NaN, 0.5], observer.Cosines[..3].ToArray());
    }

    [Fact]
    public void Pairs_OverSteps_AreMeansOfTheCosinesThatThereWere()
    {
        PairTotals totals = new(3);
        Assert.Null(totals.Pairs(["x", "y", "z"]));
        totals.Add([1, -0.5, double.NaN, -0.5, 1, 0.25, double.NaN, 0.25, 1]);
        totals.Add([1, 0.1, double.NaN, 0.1, 1, 0.75, double.NaN, 0.75, 1]);
        IReadOnlyList<TaskPair> pairs = totals.Pairs(["x", "y", "z"])!;
        Assert.Equal([("x", "y"), ("y", "z")], pairs.Select(pair => (pair.First, pair.Second)));
        Assert.Equal((-0.2, 0.5, 2L), (pairs[0].MeanCosine, pairs[0].Conflicts, pairs[0].Steps));
        Assert.Equal((0.5, 0.0, 2L), (pairs[1].MeanCosine, pairs[1].Conflicts, pairs[1].Steps));
        PairTotals restored = new(3);
        restored.Load([.. totals.Sums]);
        Assert.Equal(pairs, restored.Pairs(["x", "y", "z"])!);
        totals.Clear();
        Assert.Null(totals.Pairs(["x", "y", "z"]));
    }

    [Fact]
    public void Together_Stretches_CountByTheirSteps()
    {
        TaskPair one = new() { First = "a", Second = "b", MeanCosine = 0.5, Conflicts = 0, Steps = 1 };
        TaskPair two = new() { First = "a", Second = "b", MeanCosine = -0.5, Conflicts = 1, Steps = 3 };
        TaskPair other = new() { First = "a", Second = "c", MeanCosine = 0.1, Conflicts = 0.2, Steps = 5 };
        Assert.Equal([new() { First = "a", Second = "b", MeanCosine = -0.25, Conflicts = 0.75, Steps = 4 }, other], TaskPair.Together([one, other, two]));
    }
}
