using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;
using CudaMoE.Training;

namespace CudaMoE.Tests.Models;

/// <summary>Tables in host memory, with and without a cache on the device: the bits of tables in the device's memory.</summary>
public sealed class HostTablesTests
{
    private const int Rows = 12;

    private static readonly TableStorage Host = new() { Place = StoragePlace.Host };

    /// <summary>Wide enough tables that a cache of 8 rows overflows.</summary>
    private static readonly BatchLayout Layout = TestModels.Layout with
    {
        Sparse = [.. TestModels.Layout.Sparse.Select(input => input with { Rows = input.Rows * 9 })],
    };

    private static readonly ArchitectureDescription Mmoe = new() { Type = ModelType.Mmoe, Projection = 8, Experts = new() { Count = 2, Layers = [6] }, Tower = [4] };

    [Theory]
    [DeviceData(OptimizerType.Sgd, Precision.F32)]
    [DeviceData(OptimizerType.Adagrad, Precision.F32)]
    [DeviceData(OptimizerType.RowwiseAdagrad, Precision.Bf16)]
    [DeviceData(OptimizerType.RowwiseAdam, Precision.F32)]
    public void Train_TablesOnTheHost_GivesTheBitsOfTablesOnTheDevice(string deviceName, OptimizerType optimizer, Precision precision)
    {
        using Device device = Device.Open(deviceName);
        float[] expected = Train(null);
        Assert.Equal(expected, Train(Host));
        Assert.Equal(expected, Train(Host with { CacheRows = 8 }));
        Assert.Equal(expected, Train(Host with { CacheRows = 41 }));
        Assert.Equal(0, device.QueryInfo().MappedBytes);

        float[] Train(TableStorage? storage)
        {
            using MultiTaskModel model = Build(device, storage, optimizer, precision);
            TrainingStep step = new(model, 4);
            Random random = new(7);
            for (int i = 1; i <= 4; i++)
            {
                using Batch batch = TestModels.RandomBatch(Layout, TestModels.BinaryTasks, Rows, random);
                step.Run(batch, i);
            }

            step.Finish();
            using Batch last = TestModels.RandomBatch(Layout, TestModels.BinaryTasks, Rows, random);
            model.Forward(last);
            List<float> all = [];
            for (int task = 0; task < 3; task++)
                all.AddRange(TestDevices.Read(model, model.ReadLogits(task)));
            all.AddRange(model.Parameters.SelectMany(parameter => TestDevices.Read(model, parameter)));
            return [.. all];
        }
    }

    [Theory]
    [DeviceData]
    public void Forward_Captured_FindsRowsWhereTheyAre(string deviceName)
    {
        using Device device = Device.Open(deviceName);
        BatchLayout oneHot = Layout with { Sparse = [.. Layout.Sparse.Where(input => !input.MultiHot)] };
        using MultiTaskModel plain = OneHot(null), cached = OneHot(Host with { CacheRows = 8 });
        Random random = new(3);
        using Batch batch = TestModels.RandomBatch(oneHot, TestModels.BinaryTasks, Rows, random);
        using ForwardCapture capture = cached.CaptureForward(batch);
        for (int i = 0; i < 5; i++)
        {
            unsafe
            {
                for (int row = 0; row < Rows; row++)
                    batch.IdsPointer(0)[row] = random.Next(Layout.Sparse[0].Rows);
            }

            capture.Run();
            plain.Forward(batch);
            Assert.Equal(TestDevices.Read(plain, plain.ReadLogits(0)), TestDevices.Read(cached, cached.ReadLogits(0)));

            // A table that is read, or written, between replays.
            if (i == 2)
            {
                foreach (MultiTaskModel model in (MultiTaskModel[])[plain, cached])
                    model.Stream.Fill(model.Parameters.First(p => p.Kind == ParameterKind.Embedding).Value, 0, 4 * 5 * 20);
            }
        }

        MultiTaskModel OneHot(TableStorage? storage)
        {
            ModelDescription description = Describe(storage, OptimizerType.Sgd, Precision.F32);
            description = description with { Features = [.. description.Features.Where(f => f.Type != FeatureType.MultiHot)] };
            return new(device, description, oneHot, [1, 1, 1], Rows, training: true);
        }
    }

    [SimtFact]
    public void Memory_TablesOnTheHost_IsNotTheDevices()
    {
        using Device device = Device.Open(TestDevices.Simt);
        using MultiTaskModel plain = Build(device, null, OptimizerType.RowwiseAdam, Precision.F32);
        long live = device.QueryInfo().LiveBytes;
        using MultiTaskModel host = Build(device, Host with { CacheRows = 8 }, OptimizerType.RowwiseAdam, Precision.F32);
        DeviceProperties info = device.QueryInfo();
        long values = plain.Parameters.Where(p => p.Kind == ParameterKind.Embedding).Sum(p => p.Count * 4);
        long states = plain.Parameters.Where(p => p.Kind == ParameterKind.Embedding).Sum(p => (p.State1Count + p.State2Count) * 4);
        Assert.Equal(values + states, host.Memory.HostTables);
        Assert.Equal(values + states, info.MappedBytes);
        Assert.Equal(plain.Memory.Parameters - values, host.Memory.Parameters);
        Assert.Equal(plain.Memory.OptimizerStates - states, host.Memory.OptimizerStates);
        Assert.True(host.Memory.TableCaches > 3 * 8 * 4 * 4);
        Assert.True(info.LiveBytes > live);
        Assert.Equal((0, 0), (plain.Memory.HostTables, plain.Memory.TableCaches));
        Assert.Empty(plain.ReadTableCaches());
    }

    [Theory]
    [DeviceData]
    public void ReadTableCaches_AfterBatches_CountsTheirRows(string deviceName)
    {
        using Device device = Device.Open(deviceName);
        using MultiTaskModel model = Build(device, Host with { CacheRows = 10 }, OptimizerType.Sgd, Precision.F32);
        using Batch batch = TestModels.RandomBatch(Layout, TestModels.BinaryTasks, Rows, new Random(2));
        model.Forward(batch);
        model.Forward(batch);
        IReadOnlyList<TableCacheCounts> counts = model.ReadTableCaches();
        Assert.Equal(["user", "item", "tags"], counts.Select(c => c.Table));
        Assert.All(counts, c => Assert.Equal(16, c.Rows));
        int touched = batch.Ids(0).ToArray().Distinct().Count();
        if (deviceName == TestDevices.Cpu)
        {
            Assert.All(counts, c => Assert.Equal(new(c.Table, c.Rows, 0, 0, 0, 0, 0, 0, 0), c));
            return;
        }

        Assert.Equal(2, counts[0].Batches);
        Assert.Equal(2 * touched, counts[0].Hits + counts[0].Misses + counts[0].Bypasses);
        Assert.Equal(counts[0].Misses * 5 * 4, counts[0].BytesIn);
        Assert.Equal(0, counts[0].BytesOut);
        Assert.True(counts[0].Hits > 0);
    }

    [SimtFact]
    public void Model_MoreHostMemoryThanThereIs_ThrowsAndLeavesNothing()
    {
        using Device device = Device.Open(TestDevices.Simt);
        BatchLayout huge = Layout with { Sparse = [.. Layout.Sparse.Select(input => input with { Rows = int.MaxValue, Dimension = input.Dimension * 100 })] };
        ModelDescription description = Describe(Host, OptimizerType.Sgd, Precision.F32);
        description = description with { Features = [.. description.Features.Select(f => f.Dimension is { } width ? f with { Dimension = width * 100 } : f)] };
        DeviceOutOfMemoryException error = Assert.Throws<DeviceOutOfMemoryException>(
            () => new MultiTaskModel(device, description, huge, [1, 1, 1], Rows, training: true).Dispose());
        Assert.Contains("cudamoe_memory_allocate_mapped", error.Message, StringComparison.Ordinal);
        DeviceProperties info = device.QueryInfo();
        Assert.Equal((0, 0L, 0L), (info.LiveAllocations, info.LiveBytes, info.MappedBytes));
    }

    private static MultiTaskModel Build(Device device, TableStorage? storage, OptimizerType optimizer, Precision precision) =>
        new(device, Describe(storage, optimizer, precision), Layout, [1, 1, 1], Rows, training: true);

    private static ModelDescription Describe(TableStorage? storage, OptimizerType optimizer, Precision precision)
    {
        TrainingDescription training = new() { Seed = 5, EmbeddingOptimizer = new() { Type = optimizer, LearningRate = 0.05f } };
        ModelDescription description = TestModels.Describe(Mmoe with { EmbeddingPrecision = precision }, TestModels.BinaryTasks, training);
        return description with { Features = [.. description.Features.Select(f => f.Dimension == null ? f : f with { Storage = storage })] };
    }
}
