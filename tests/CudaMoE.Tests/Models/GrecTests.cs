using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Models;

/// <summary>The grec model against its double-precision reference, and what must hold of it whatever the weights.</summary>
public sealed class GrecTests(ITestOutputHelper output)
{
    public static TheoryData<string> Cases => [.. GrecModels.All.Keys];

    [Theory]
    [DeviceMemberData(nameof(Cases))]
    public void Grec_RandomBatch_MatchesReferenceForwardAndBackward(string deviceName, string name)
    {
        Random random = Random();
        int rows = deviceName == TestDevices.Simt ? 3 : 6;
        using Device device = Device.Open(deviceName);
        ModelDescription description = GrecModels.All[name];
        using MultiTaskModel model = Make(device, description, rows + 1, random);
        using Batch batch = TestModels.RandomBatch(model.Layout, description.Tasks, rows, random);

        Step(model, batch);

        GrecReference reference = new(model);
        double[][] logits = reference.Logits(batch);
        int column = 0;
        for (int t = 0; t < model.Outputs.Count; column += model.Outputs[t++])
        {
            float[] actual = TestDevices.Read(model, model.Logits(t));
            for (int i = 0; i < actual.Length; i++)
                Assert.Equal(logits[i / model.Outputs[t]][column + (i % model.Outputs[t])], actual[i], 5e-5);
        }

        long[] counts = model.ExpertCounts.ToArray();
        Assert.Equal(reference.Counts, counts);
        Assert.Equal(reference.AuxiliaryLoss(counts), model.AuxiliaryLoss, 1e-5);
        double[] losses = reference.Losses(batch);
        for (int t = 0; t < losses.Length; t++)
            Assert.Equal(losses[t], model.Losses[t], 5e-5 * Math.Max(1, Math.Abs(losses[t])));
        long kept = reference.Kept.Cast<List<int>?>().Sum(k => k?.Count ?? 0);
        Assert.Equal(counts.Sum() - kept, model.DroppedPairs.ToArray().Sum());
        ModelGradientTests.CheckGradients(model, reference.Parameters, () => reference.Losses(batch).Sum() + reference.AuxiliaryLoss(counts), random, samples: 6);
    }

    [Theory]
    [DeviceData(RoutingLevel.Task)]
    [DeviceData(RoutingLevel.Sentence)]
    [DeviceData(RoutingLevel.TaskSentencePooled)]
    public void Routing_OneDecisionForASentence_SendsItsTokensTheSameWay(string deviceName, RoutingLevel level)
    {
        Random random = Random();
        const int rows = 29;
        using Device device = Device.Open(deviceName);
        ModelDescription description = Change(GrecModels.All["task sentence"], grec => grec with { Routing = level });
        using MultiTaskModel model = Make(device, description, rows, random);
        using Batch batch = TestModels.RandomBatch(model.Layout, description.Tasks, rows, random);

        model.Forward(batch);

        const int tokens = 5;
        int[] experts = [.. model.ExpertCounts.ToArray().Select(c => (int)c)];
        Assert.All(experts, count => Assert.Equal(0, count % tokens));
        if (level == RoutingLevel.Task)
            Assert.All(experts, count => Assert.Equal(0, count % (tokens * rows)));
        Assert.Equal(rows * 3 * tokens, experts.Sum());
    }

    [Theory]
    [DeviceData]
    public void Capacity_AsManyAsTokens_DropsNothingAndChangesNothing(string deviceName)
    {
        Random random = Random();
        using Device device = Device.Open(deviceName);
        ModelDescription description = GrecModels.All["task sentence"];
        using MultiTaskModel free = Make(device, description, 9, random);
        using MultiTaskModel limited = new(device, Change(description, grec => grec with { TokenCapacity = 5 }), free.Layout, free.Outputs, 9, training: true);
        Copy(free, limited);
        using Batch batch = TestModels.RandomBatch(free.Layout, description.Tasks, 9, random);

        Step(free, batch);
        Step(limited, batch);

        Assert.Equal(0, limited.DroppedPairs.ToArray().Sum());
        foreach ((Parameter a, Parameter b) in free.Parameters.Zip(limited.Parameters).Where(p => p.First.Kind != ParameterKind.Embedding))
            Assert.Equal(TestDevices.Read(free, a.Gradient, a.Count), TestDevices.Read(limited, b.Gradient, b.Count));
    }

    [Theory]
    [DeviceData]
    public unsafe void Sequence_WhatFollowsItsValues_DoesNotMatter(string deviceName)
    {
        Random random = Random();
        using Device device = Device.Open(deviceName);
        ModelDescription description = GrecModels.All["one sequence as wide as a token, no blocks"];
        description = Change(description, grec => grec with { Blocks = 1, Heads = 1 });
        using MultiTaskModel model = Make(device, description, 2, random);
        using Batch batch = TestModels.RandomBatch(model.Layout, description.Tasks, 2, random);
        const int history = 4;

        // One value in both rows, then a second row that has a longer sequence before it in the ids.
        float[] Run(int[] first, int[] second)
        {
            batch.SetIdCount(history, first.Length + second.Length);
            batch.OffsetsPointer(history)[0] = 0;
            batch.OffsetsPointer(history)[1] = first.Length;
            batch.OffsetsPointer(history)[2] = first.Length + second.Length;
            int[] ids = [.. first, .. second];
            ids.CopyTo(batch.Ids(history));
            model.Forward(batch);
            return [.. Enumerable.Range(0, 3).Select(t => TestDevices.Read(model, model.Logits(t))[1])];
        }

        float[] alone = Run([], [3]);
        Assert.Equal(alone, Run([1, 2, 5], [3]));
        Assert.NotEqual(alone, Run([], [3, 4]));
        Assert.All(Run([1], []), logit => Assert.True(float.IsFinite(logit)));
    }

    [Theory]
    [DeviceData]
    public void CaptureForward_CapacityWithinSamples_GivesTheSameBits(string deviceName)
    {
        Random random = Random();
        using Device device = Device.Open(deviceName);
        ModelDescription description = Change(GrecModels.All["only numbers"], grec => grec with { TokenCapacity = 1 });
        using MultiTaskModel model = Make(device, description, 7, random);
        using Batch batch = TestModels.RandomBatch(model.Layout, description.Tasks, 7, random);
        using ForwardCapture capture = model.CaptureForward(batch);
        for (int i = 0; i < 3; i++)
        {
            using Batch next = TestModels.RandomBatch(model.Layout, description.Tasks, 7, random);
            model.Forward(next);
            float[][] logits = Logits();
            long[] dropped = model.DroppedPairs.ToArray();
            Assert.NotEqual(0, dropped.Sum());
            next.Dense.CopyTo(batch.Dense);
            capture.Run();
            Assert.Equal(logits, Logits());
            Assert.Equal(dropped, model.DroppedPairs.ToArray());
        }

        float[][] Logits() => [.. Enumerable.Range(0, description.Tasks.Count).Select(t => TestDevices.Read(model, model.Logits(t)))];
    }

    [Fact]
    public void Threads_AnyNumber_GiveTheSameBits()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        float[][] Run(int threads)
        {
            Random random = new(seed);
            using Device device = Device.Open($"cpu:threads={threads}");
            ModelDescription description = GrecModels.All["task sentence, two experts of three"];
            using MultiTaskModel model = Make(device, description, 70, random);
            using Batch batch = TestModels.RandomBatch(model.Layout, description.Tasks, 70, random);
            for (int step = 1; step <= 3; step++)
            {
                Step(model, batch);
                model.Update(0.01f, 0.01f, step);
            }

            return [.. model.Parameters.Select(p => TestDevices.Read(model, p))];
        }

        Assert.Equal(Run(1), Run(3));
    }

    [Theory]
    [DeviceData("task sentence")]
    [DeviceData("sentence")]
    [DeviceData("task sentence pooled")]
    [DeviceData("capacity of one token")]
    public void TrunkInput_WeightedSumOfTasks_IsTheGradientOfTheWholeStep(string deviceName, string name)
    {
        Random random = Random();
        using Device device = Device.Open(deviceName);
        ModelDescription whole = GrecModels.All[name];
        BalancerDescription multi = new() { Type = BalancerType.MultiBalance, Place = RepresentationPlace.TrunkInput };
        ModelDescription split = whole with { Training = whole.Training with { Balancer = multi } };
        using MultiTaskModel one = Make(device, whole, 7, random);
        using MultiTaskModel other = new(device, split, one.Layout, one.Outputs, 7, training: true);
        Copy(one, other);
        using Batch batch = TestModels.RandomBatch(one.Layout, whole.Tasks, 7, random);

        Step(one, batch);
        other.Forward(batch);
        other.ComputeLosses();
        other.BackwardTowers();
        double[] gram = new double[9];
        other.ComputeGram(gram);
        other.BackwardTrunk([1, 1, 1], gramIsFresh: true);

        for (int t = 0; t < 3; t++)
            Assert.True(gram[t * 4] > 0);
        float[] expected = TestDevices.Read(one, one.TrunkInputGradients), actual = TestDevices.Read(other, other.TrunkInputGradients);
        for (int i = 0; i < expected.Length; i++)
            Assert.Equal(expected[i], actual[i], 1e-5);
        foreach ((Parameter a, Parameter b) in one.Parameters.Zip(other.Parameters).Where(p => p.First.Kind != ParameterKind.Embedding))
        {
            float[] x = TestDevices.Read(one, a.Gradient, a.Count), y = TestDevices.Read(other, b.Gradient, b.Count);
            for (int i = 0; i < x.Length; i++)
                Assert.Equal(x[i], y[i], 1e-5);
        }
    }

    private static ModelDescription Change(ModelDescription description, Func<GrecDescription, GrecDescription> change) =>
        description with { Architecture = description.Architecture with { Grec = change(description.Architecture.Grec!) } };

    private static void Step(MultiTaskModel model, Batch batch)
    {
        model.Forward(batch);
        model.ComputeLosses();
        model.BackwardTowers();
        model.BackwardTrunk([], gramIsFresh: false);
        model.Stream.Synchronize();
    }

    /// <summary>A model whose parameters are far from their initial values, so that every part matters.</summary>
    private static MultiTaskModel Make(Device device, ModelDescription description, int maxRows, Random random)
    {
        MultiTaskModel model = new(device, description, GrecModels.LayoutOf(description), TestModels.Outputs(description.Tasks), maxRows, training: true);
        foreach (Parameter parameter in model.Parameters)
        {
            float shift = parameter.Kind == ParameterKind.Norm ? 1 : 0;
            TestDevices.Write(model, parameter, [.. Enumerable.Range(0, (int)parameter.Count).Select(_ => shift + (float)(random.NextDouble() - 0.5))]);
        }

        return model;
    }

    private static void Copy(MultiTaskModel from, MultiTaskModel to)
    {
        foreach ((Parameter a, Parameter b) in from.Parameters.Zip(to.Parameters))
            TestDevices.Write(to, b, TestDevices.Read(from, a));
    }

    private Random Random()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        return new(seed);
    }
}
