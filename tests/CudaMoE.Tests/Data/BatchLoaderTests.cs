using System.Diagnostics;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Data;

/// <summary>Order, resume, reuse and end of the loader. The rows' only feature is their number.</summary>
public sealed class BatchLoaderTests : IDisposable
{
    private const int Rows = 1000;

    private static readonly ModelDescription Model = Describe.Model(
        [
            Describe.X,
            new() { Name = "tags", Type = FeatureType.MultiHot, Dimension = 4, Encoding = CategoryEncoding.Identity, Buckets = Rows + 1 },
        ],
        [Describe.Y]);

    private readonly TemporaryFolder _folder = new();
    private readonly Dataset _data;

    public BatchLoaderTests()
    {
        _folder.Write("train.csv", "x,tags,y\n" + string.Concat(Enumerable.Range(0, Rows).Select(i => $"{i},{Tags(i)},{i % 2}\n")));
        _data = Dataset.Open(Model, _folder.Root);
    }

    public void Dispose()
    {
        _data.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData(1, 64)]
    [InlineData(2, 1000)]
    [InlineData(3, 7)]
    [InlineData(4, 5000)]
    public void TryTake_AnyPrefetch_FollowsThePermutation(int prefetch, int batchSize)
    {
        LoaderOptions options = new() { BatchSize = batchSize, Shuffle = true, Seed = 11, Epoch = 3, Prefetch = prefetch };
        Permutation order = new(Rows, 11, 3);
        Assert.Equal(Enumerable.Range(0, Rows).Select(i => order[i]), Order(options));
        Assert.Equal(Order(options), Order(options));
        Assert.NotEqual(Order(options), Order(options with { Epoch = 4 }));
        Assert.NotEqual(Order(options), Order(options with { Seed = 12 }));
        Assert.Equal(Enumerable.Range(0, Rows).Select(i => (long)i), Order(options with { Shuffle = false }));
        Assert.Equal(Enumerable.Range(0, Rows).Select(i => (long)i), Order(options).Order());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void TryTake_FromABatch_EqualsTheTailOfTheUnbrokenPass(bool shuffle)
    {
        LoaderOptions options = new() { BatchSize = 64, Shuffle = shuffle, Seed = 5, Epoch = 7 };
        List<long> whole = Order(options);
        for (int first = 0; first <= 16; first++)
            Assert.Equal(whole.Skip(first * 64), Order(options with { FirstBatch = first, Prefetch = 1 + (first % 4) }, first));
        Assert.Throws<ArgumentOutOfRangeException>(() => Order(options with { FirstBatch = 17 }));
    }

    [Fact]
    public void TryTake_LastBatch_IsShortOrDropped()
    {
        LoaderOptions options = new() { BatchSize = 300 };
        using BatchLoader kept = _data.Train.CreateLoader(options);
        Assert.Equal(4, kept.BatchCount);
        Assert.Equal([300, 300, 300, 100], Sizes(kept));
        Assert.False(kept.TryTake(out _));
        using BatchLoader dropped = _data.Train.CreateLoader(options with { DropLast = true });
        Assert.Equal([300, 300, 300], Sizes(dropped));
        using BatchLoader none = _data.Train.CreateLoader(options with { BatchSize = 1001, DropLast = true });
        Assert.Equal(0, none.BatchCount);
        Assert.False(none.TryTake(out _));
        using BatchLoader even = _data.Train.CreateLoader(options with { BatchSize = 250, DropLast = true });
        Assert.Equal([250, 250, 250, 250], Sizes(even));
    }

    [Fact]
    public void TryTake_SeveralOut_KeepTheirContent()
    {
        using BatchLoader loader = _data.Train.CreateLoader(new() { BatchSize = 10, Prefetch = 3 });
        Batch[] taken = [.. Enumerable.Range(0, 4).Select(_ => loader.TryTake(out Batch? batch) ? batch : null!)];
        Assert.Equal([0, 10, 20, 30], taken.Select(batch => (int)batch.Dense[0]));
        InvalidOperationException error = Assert.Throws<InvalidOperationException>(() => loader.TryTake(out _));
        Assert.Contains("return one first", error.Message, StringComparison.Ordinal);
        loader.Return(taken[2]);
        Assert.True(loader.TryTake(out Batch? fifth));
        Assert.Same(taken[2], fifth);
        Assert.Equal([0, 10, 40, 30], taken.Select(batch => (int)batch.Dense[0]));
    }

    [Fact]
    public void Return_ABatchThatIsNotOut_IsRefused()
    {
        using BatchLoader loader = _data.Train.CreateLoader(new() { BatchSize = 10 });
        Assert.True(loader.TryTake(out Batch? batch));
        loader.Return(batch);
        Assert.Throws<ArgumentException>(() => loader.Return(batch));
        using Batch foreign = new(_data.Layout, 10);
        Assert.Throws<ArgumentException>(() => loader.Return(foreign));
    }

    [Theory]
    [InlineData(1, 0)]
    [InlineData(1, 1)]
    [InlineData(4, 0)]
    [InlineData(4, 3)]
    [InlineData(2, 100)]
    public async Task Dispose_AtAnyMoment_DoesNotHang(int prefetch, int batches)
    {
        for (int repeat = 0; repeat < 10; repeat++)
        {
            BatchLoader loader = _data.Train.CreateLoader(new() { BatchSize = 10, Prefetch = prefetch });
            Batch? kept = null;
            for (int i = 0; i < batches; i++)
            {
                Assert.True(loader.TryTake(out kept));
                if (i + 1 < batches)
                    loader.Return(kept);
            }

            await Task.Run(loader.Dispose).WaitAsync(TimeSpan.FromSeconds(30));
            loader.Dispose();
            Assert.Throws<ObjectDisposedException>(() => loader.TryTake(out _));
            if (kept is not null)
                loader.Return(kept);
        }
    }

    // In a process of its own, since other tests allocate beside it; counts the loader's thread as well.
    [Fact]
    public void TryTake_InSteadyState_AllocatesNothing()
    {
        using Process process = ChildProcess.Start("loader", _folder.Root);
        string answer = process.StandardOutput.ReadToEnd().Trim();
        process.WaitForExit();
        Assert.Equal("0 bytes in 400 batches", answer);
    }

    // The files are shared with the map, so the loader meets what is written into them.
    [Fact]
    public void TryTake_ThreadFails_GetsItsError()
    {
        string path = Path.Combine(_data.CacheFolder, "train.rows");
        byte[] rows = File.ReadAllBytes(path);
        using (FileStream file = new(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            file.Write(Enumerable.Repeat((byte)0x7F, rows.Length).ToArray());
        using BatchLoader loader = _data.Train.CreateLoader(new() { BatchSize = 10 });
        DataException error = Assert.Throws<DataException>(() => loader.TryTake(out _));
        Assert.Contains("points outside of its values", error.Message, StringComparison.Ordinal);
        Assert.False(loader.TryTake(out _));
    }

    [Fact]
    public void CreateLoader_BadOptions_AreNamed()
    {
        LoaderOptions good = new() { BatchSize = 1 };
        foreach (LoaderOptions bad in new[] { good with { BatchSize = 0 }, good with { Prefetch = 0 }, good with { Epoch = -1 }, good with { FirstBatch = -1 } })
            Assert.Throws<ArgumentOutOfRangeException>(() => _data.Train.CreateLoader(bad));
        using Batch batch = new(_data.Layout, 2);
        Assert.Throws<ArgumentOutOfRangeException>(() => _data.Train.Gather([Rows], batch));
        Assert.Throws<ArgumentOutOfRangeException>(() => _data.Train.Gather([-1], batch));
        Assert.Throws<ArgumentException>(() => _data.Train.Gather([1, 2, 3], batch));
    }

    /// <summary>The child process: loads the data set of a folder and says what 400 batches allocated.</summary>
    internal static int RunChild(string folder)
    {
        using Dataset data = Dataset.Open(Model, folder);
        long least = long.MaxValue;
        // The first passes still meet the runtime's own allocations, as those of a thread's first wait.
        for (int epoch = 0; epoch < 8; epoch++)
        {
            using BatchLoader loader = data.Train.CreateLoader(new() { BatchSize = 2, Shuffle = true, Epoch = epoch });
            long before = 0;
            for (int batches = 0; loader.TryTake(out Batch? batch); batches++)
            {
                loader.Return(batch);
                if (batches == 99)
                    before = GC.GetTotalAllocatedBytes(precise: true);
                else if (batches == 499)
                    least = Math.Min(least, GC.GetTotalAllocatedBytes(precise: true) - before);
            }
        }

        Console.WriteLine($"{least} bytes in 400 batches");
        return 0;
    }

    private static string Tags(int row) => string.Join('|', Enumerable.Range(0, row % 4).Select(i => row));

    private static List<int> Sizes(BatchLoader loader)
    {
        List<int> sizes = [];
        while (loader.TryTake(out Batch? batch))
        {
            sizes.Add(batch.Rows);
            loader.Return(batch);
        }

        return sizes;
    }

    // Checks each batch as it goes: index, label, and a bag that is the row's own.
    private unsafe List<long> Order(LoaderOptions options, int firstIndex = 0)
    {
        List<long> rows = [];
        using BatchLoader loader = _data.Train.CreateLoader(options);
        for (int index = firstIndex; loader.TryTake(out Batch? batch); index++)
        {
            Assert.Equal(index, batch.Index);
            for (int i = 0; i < batch.Rows; i++)
            {
                int row = (int)batch.Dense[i];
                rows.Add(row);
                Assert.Equal(row % 2, batch.Labels(0)[i]);
                Assert.Equal(1, batch.Weights(0)[i]);
                Assert.Equal(0, batch.Groups[i]);
                int* offsets = batch.OffsetsPointer(0);
                Assert.Equal(row % 4, offsets[i + 1] - offsets[i]);
                foreach (int id in batch.Ids(0)[offsets[i]..offsets[i + 1]])
                    Assert.Equal(row, id);
            }

            loader.Return(batch);
        }

        return rows;
    }
}
