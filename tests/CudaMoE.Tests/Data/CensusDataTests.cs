using System.Diagnostics;
using CudaMoE.Data;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Data;

public sealed class CensusDataTests(ITestOutputHelper output)
{
    [Fact]
    public void Open_Census_HasTheCountsOfItsReadme()
    {
        using TemporaryFolder folder = new();
        Stopwatch watch = Stopwatch.StartNew();
        using Dataset dataset = Dataset.Open(Census.Load(folder.Root), Census.Folder);
        output.WriteLine($"built in {watch.Elapsed.TotalSeconds:F2} s");
        watch.Restart();
        using (Dataset again = Dataset.Open(Census.Load(folder.Root), Census.Folder))
            Assert.False(again.WasBuilt);
        output.WriteLine($"opened again in {watch.Elapsed.TotalMilliseconds:F1} ms");

        Assert.True(dataset.WasBuilt);
        Assert.Empty(dataset.Notices);
        Assert.Equal(199_523, dataset.Train.Rows);
        Assert.Equal(49_881, dataset.Validation!.Rows);
        Assert.Equal(49_881, dataset.Test!.Rows);
        Assert.Equal(31, dataset.Layout.Sparse.Count);
        Assert.Equal(7, dataset.Layout.DenseWidth);
        Assert.Equal(0.0621, dataset.Encoders.Tasks[0].LabelMean, 4);
        Assert.Equal(0.4335, dataset.Encoders.Tasks[1].LabelMean, 4);
        Assert.Equal(0.148, dataset.Encoders.Tasks[2].LabelMean, 3);
        Assert.Equal(0.0621, Rates(dataset.Train)[0], 4);
        double[] validation = Rates(dataset.Validation);
        double[] test = Rates(dataset.Test);
        Assert.Equal(0.0620, (validation[0] + test[0]) / 2, 4);
        Assert.Equal(0.4325, (validation[1] + test[1]) / 2, 4);
        Assert.Equal(52 + 1, dataset.Layout.Sparse[1].Rows);
    }

    [Fact]
    public void Loader_Census_GivesTwoMillionSamplesASecond()
    {
        using TemporaryFolder folder = new();
        using Dataset dataset = Dataset.Open(Census.Load(folder.Root), Census.Folder);
        double best = double.MaxValue;
        for (int pass = 0; pass < 7; pass++)
        {
            Stopwatch watch = Stopwatch.StartNew();
            using BatchLoader loader = dataset.Train.CreateLoader(new() { BatchSize = 1024, Shuffle = true, Epoch = pass });
            while (loader.TryTake(out Batch? batch))
                loader.Return(batch);
            best = Math.Min(best, watch.Elapsed.TotalSeconds);
        }

        output.WriteLine($"{dataset.Train.Rows / best / 1e6:F1} M samples/s");
    }

    private static double[] Rates(DatasetSplit split)
    {
        double[] sums = new double[split.Layout.Tasks];
        using BatchLoader loader = split.CreateLoader(new() { BatchSize = 1000 });
        while (loader.TryTake(out Batch? batch))
        {
            for (int task = 0; task < sums.Length; task++)
            {
                foreach (float label in batch.Labels(task))
                    sums[task] += label;
            }

            loader.Return(batch);
        }

        return [.. sums.Select(sum => sum / split.Rows)];
    }
}
