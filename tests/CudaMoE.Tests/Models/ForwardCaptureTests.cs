using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Models;

/// <summary>Forward passes from captures give the bits of the ones that are called layer by layer.</summary>
public sealed class ForwardCaptureTests
{
    private const int MaxRows = 24;

    private static readonly BatchLayout Layout = new(
        [new("user", "user", 11, 5, false, PoolingKind.Sum, 1), new("item", "item", 7, 4, false, PoolingKind.Sum, 1)],
        DenseWidth: 3,
        Tasks: 3);

    private static readonly ArchitectureDescription Dense = new() { Type = ModelType.Mmoe, Experts = new() { Count = 3, Layers = [6] }, Tower = [4], LayerNorm = true, Projection = 8 };

    [Theory]
    [DeviceData("dense")]
    [DeviceData("sparse")]
    [DeviceData("given")]
    public void Run_WhateverTheBatchHolds_GivesTheLogitsOfForward(string spec, string kind)
    {
        using Device device = Device.Open(spec);
        using MultiTaskModel model = Build(device, kind, training: false);
        Random random = new(3);
        using Batch batch = new(Layout, MaxRows);
        using ForwardCapture capture = model.CaptureForward(batch);
        Assert.Same(batch, capture.Batch);
        foreach (int rows in new[] { 5, 5, 5, MaxRows, 1, 1 })
        {
            Fill(batch, rows, random);
            model.Forward(batch);
            float[][] expected = Logits(model);
            double[] sums = model.GateSums.ToArray();
            Fill(batch, rows, random);
            model.Forward(batch);
            float[][] second = Logits(model);
            double[] secondSums = model.GateSums.ToArray();
            Assert.NotEqual(expected[0], second[0]);

            capture.Run();
            Assert.Equal(second, Logits(model));
            Assert.Equal(secondSums, model.GateSums.ToArray());
            capture.Run();
            Assert.Equal(second, Logits(model));
            Assert.Equal(secondSums, model.GateSums.ToArray());
            Assert.Equal(sums.Length, secondSums.Length);
        }
    }

    [Theory]
    [DeviceData]
    public void Run_AfterATrainingStep_UsesTheNewWeights(string spec)
    {
        using Device device = Device.Open(spec);
        using MultiTaskModel model = Build(device, "dense", training: true);
        Random random = new(4);
        using Batch batch = new(Layout, MaxRows);
        using Batch other = new(Layout, MaxRows);
        Fill(batch, 7, random);
        Fill(other, MaxRows, random);
        using ForwardCapture capture = model.CaptureForward(batch);
        capture.Run();
        float[][] before = Logits(model);
        model.Forward(other);
        model.ComputeLosses();
        model.BackwardTowers();
        model.BackwardTrunk([], gramIsFresh: false);
        model.Update(0.1f, 0.1f, 1);

        capture.Run();

        float[][] after = Logits(model);
        Assert.NotEqual(before[0], after[0]);
        model.Forward(batch);
        Assert.Equal(Logits(model), after);
    }

    /// <summary>Where the host reads the device's memory ids lie in the batch, and a capture would keep their number.</summary>
    [Theory]
    [DeviceData]
    public void CaptureForward_MultiHotFeatures_IsRefusedByNameOrRunsWithAnyNumberOfValues(string deviceName)
    {
        using Device device = Device.Open(deviceName);
        IReadOnlyList<TaskDescription> tasks = TestModels.BinaryTasks;
        using MultiTaskModel model = new(device, TestModels.Describe(Dense, tasks), TestModels.Layout, TestModels.Outputs(tasks), MaxRows, training: false);
        Assert.Equal(!device.Info.HostAccessible, model.CanCaptureForward);
        if (model.CanCaptureForward)
        {
            using Batch captured = new(TestModels.Layout, MaxRows);
            using ForwardCapture capture = model.CaptureForward(captured);
            for (int i = 0; i < 12; i++)
            {
                int rows = i % 4 == 0 ? MaxRows : 5;
                using Batch called = TestModels.RandomBatch(TestModels.Layout, tasks, rows, new(i));
                model.Forward(called);
                float[][] expected = Logits(model);
                TestModels.Fill(captured, tasks, rows, new(i));
                capture.Run();
                Assert.Equal(expected, Logits(model));
            }

            Assert.InRange(model.Replays, 1, 11);
            return;
        }

        using Batch batch = new(TestModels.Layout, MaxRows);
        Assert.Contains("\"tags\"", Assert.Throws<NotSupportedException>(() => model.CaptureForward(batch)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [DeviceData]
    public void Run_ABatchThatIsTooLargeOrADisposedCapture_IsRefused(string deviceName)
    {
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = Build(device, "dense", training: false);
        using Batch batch = new(Layout, MaxRows + 1);
        Fill(batch, MaxRows + 1, new(5));
        ForwardCapture capture = model.CaptureForward(batch);
        Assert.Throws<ArgumentException>(capture.Run);
        capture.Dispose();
        capture.Dispose();
        Assert.Throws<ObjectDisposedException>(capture.Run);
    }

    [Theory]
    [DeviceData]
    public void Model_AfterDispose_IsRefused(string spec)
    {
        using Device device = Device.Open(spec);
        MultiTaskModel model = Build(device, "dense", training: true);
        using Batch batch = new(Layout, MaxRows);
        Fill(batch, 5, new(1));
        model.Forward(batch);
        model.Dispose();
        Assert.Throws<ObjectDisposedException>(() => model.Forward(batch));
        Assert.Throws<ObjectDisposedException>(() => Predictions.Read(model, 0, new float[5]));
        Assert.Throws<ObjectDisposedException>(() => model.ReadTowerLogits(0));
        Assert.Throws<ObjectDisposedException>(model.ComputeLosses);
        Assert.Throws<ObjectDisposedException>(model.BackwardTowers);
        Assert.Throws<ObjectDisposedException>(() => model.Update(0.1f, 0.1f, 1));
        model.Dispose();
    }

    [Theory]
    [DeviceData]
    public void Forward_OfABatchThatDoesNotFit_IsRefused(string spec)
    {
        using Device device = Device.Open(spec);
        using MultiTaskModel model = Build(device, "dense", training: false);
        foreach (BatchLayout other in new[] { Layout with { DenseWidth = 2 }, Layout with { Tasks = 1 }, Layout with { Sparse = [Layout.Sparse[0]] } })
        {
            using Batch batch = new(other, MaxRows) { Rows = 5 };
            Assert.Throws<ArgumentException>(() => model.Forward(batch));
        }

        Batch disposed = new(Layout, MaxRows) { Rows = 5 };
        disposed.Dispose();
        Assert.Throws<ObjectDisposedException>(() => model.Forward(disposed));
    }

    private static MultiTaskModel Build(Device device, string kind, bool training)
    {
        IReadOnlyList<TaskDescription> tasks = kind == "given" ? TestModels.GivenTasks : TestModels.BinaryTasks;
        ArchitectureDescription architecture = kind == "sparse" ? Dense with { Gate = new() { TopK = 2 } } : Dense;
        return new(device, TestModels.Describe(architecture, tasks), Layout, TestModels.Outputs(tasks), MaxRows, training);
    }

    private static float[][] Logits(MultiTaskModel model) => [.. Enumerable.Range(0, model.Outputs.Count).Select(t =>
    {
        float[] values = new float[model.MaxRows];
        Predictions.Read(model, t, values);
        return values;
    })];

    private static void Fill(Batch batch, int rows, Random random)
    {
        batch.Rows = rows;
        for (int f = 0; f < batch.Layout.Sparse.Count; f++)
        {
            foreach (ref int id in batch.Ids(f))
                id = random.Next(batch.Layout.Sparse[f].Rows);
        }

        foreach (ref float value in batch.Dense)
            value = (float)((random.NextDouble() * 4) - 2);
        for (int t = 0; t < batch.Layout.Tasks; t++)
        {
            foreach (ref float label in batch.Labels(t))
                label = random.Next(2);
            batch.Weights(t).Fill(1);
        }
    }
}
