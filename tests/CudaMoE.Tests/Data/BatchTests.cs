using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Data;

/// <summary>No use of a batch reaches beyond its memory.</summary>
public sealed class BatchTests
{
    private static readonly BatchLayout Layout = new(
        [new("user", "user", 11, 5, false, PoolingKind.Sum, 1), new("tags", "tags", 7, 4, true, PoolingKind.Sum, 3)],
        DenseWidth: 3,
        Tasks: 2);

    [Fact]
    public void Rows_AreWithinTheCapacity()
    {
        using Batch batch = new(Layout, 16);
        batch.Rows = 16;
        Assert.Equal(48, batch.Dense.Length);
        Assert.Throws<ArgumentOutOfRangeException>(() => batch.Rows = 17);
        Assert.Throws<ArgumentOutOfRangeException>(() => batch.Rows = -1);
        Assert.Equal(16, batch.Rows);
        Assert.Throws<ArgumentOutOfRangeException>(() => batch.SetIdCount(1, -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => batch.Labels(2).Length);
        Assert.Throws<ArgumentOutOfRangeException>(() => batch.Weights(-1).Length);
    }

    [Fact]
    public void Memory_AfterDispose_IsRefused()
    {
        Batch batch = new(Layout, 16) { Rows = 4 };
        batch.Dispose();
        batch.Dispose();
        Assert.Throws<ObjectDisposedException>(() => batch.Ids(0).Length);
        Assert.Throws<ObjectDisposedException>(() => batch.Dense.Length);
        Assert.Throws<ObjectDisposedException>(() => batch.Labels(0).Length);
        Assert.Throws<ObjectDisposedException>(() => batch.Weights(0).Length);
        Assert.Throws<ObjectDisposedException>(() => batch.Groups.Length);
        Assert.Throws<ObjectDisposedException>(() => batch.SetIdCount(1, 100));
    }

    [Fact]
    public void Gather_IntoABatchOfAnotherLayout_IsRefused()
    {
        using TemporaryFolder folder = new();
        NaiveTable table = new(new(4), 64);
        folder.Write("train.csv", System.Text.Encoding.UTF8.GetBytes(table.Text(new(5))));
        using Dataset data = Dataset.Open(NaiveTable.Description with { Data = NaiveTable.Description.Data! with { Train = ["train.csv"] } }, folder.Root);
        BatchLayout own = data.Layout;
        foreach (BatchLayout other in new[]
        {
            own with { Tasks = own.Tasks + 1 },
            own with { DenseWidth = own.DenseWidth + 1 },
            own with { Sparse = [.. own.Sparse.Skip(1)] },
            own with { Sparse = [.. own.Sparse.Select(input => input with { MultiHot = !input.MultiHot })] },
        })
        {
            using Batch batch = new(other, 64);
            ArgumentException error = Assert.Throws<ArgumentException>(() => data.Train.Gather([0, 1], batch));
            Assert.Contains("make it with the Layout of the data", error.Message, StringComparison.Ordinal);
        }

        using Batch equal = new(own with { Sparse = [.. own.Sparse] }, 64);
        data.Train.Gather([0, 1], equal);
        Assert.Equal(2, equal.Rows);
    }
}
