using System.Globalization;
using System.IO.Compression;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Data;

/// <summary>The shipped census data as the shipped description reads it.</summary>
public sealed class CensusDataTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly ModelDescription _description;
    private readonly Dataset _dataset;

    public CensusDataTests()
    {
        _description = Census.Load(_folder.Root);
        _dataset = Dataset.Open(_description, Census.Folder);
    }

    public void Dispose()
    {
        _dataset.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void Open_Census_HasTheCountsOfItsReadmeAndItsRows()
    {
        Assert.Empty(_dataset.Notices);
        Assert.Equal(199_523, _dataset.Train.Rows);
        Assert.Equal(49_881, _dataset.Validation!.Rows);
        Assert.Equal(49_881, _dataset.Test!.Rows);
        Assert.Equal(31, _dataset.Layout.Sparse.Count);
        Assert.Equal(7, _dataset.Layout.DenseWidth);
        Assert.Equal([0.0621, 0.4335, 0.148], Rates(_dataset.Train).Zip([4, 4, 3], Math.Round));
        Assert.Equal(Rates(_dataset.Train), _dataset.Encoders.Tasks.Select(task => task.LabelMean), (a, b) => Math.Abs(a - b) < 1e-9);
        double[] validation = Rates(_dataset.Validation);
        double[] test = Rates(_dataset.Test);
        Assert.Equal([0.0620, 0.4325], validation.Zip(test, (a, b) => Math.Round((a + b) / 2, 4)).Take(2));
        FittedFeature industry = _dataset.Encoders.Features.Single(feature => feature.Column == "det_ind_code");
        Assert.Equal(52 + 1, _dataset.Encoders.Tables.Single(table => table.Name == industry.Table).Rows);
        CheckRows();
    }

    // Rows here and there, beside the text of their lines split at the commas.
    private void CheckRows()
    {
        string[] lines = ReadLines();
        Assert.Equal(lines.Length, _dataset.Train.Rows);
        Random random = new(17);
        long[] rows = [0, lines.Length - 1, .. Enumerable.Range(0, 500).Select(_ => random.NextInt64(lines.Length))];
        using Batch batch = new(_dataset.Layout, rows.Length);
        _dataset.Train.Gather(rows, batch);
        IReadOnlyList<string> columns = _description.Data!.Format.Columns!;
        for (int i = 0; i < rows.Length; i++)
        {
            string[] fields = lines[rows[i]].Split(',', StringSplitOptions.TrimEntries);
            string Field(string column) => fields[columns.ToList().IndexOf(column)];
            int sparse = 0;
            int dense = 0;
            foreach (FittedFeature feature in _dataset.Encoders.Features)
            {
                string text = Field(feature.Column);
                if (feature.Table is null)
                {
                    float expected = Transformed(feature, double.Parse(text, CultureInfo.InvariantCulture));
                    Assert.Equal(expected, batch.Dense[(i * 7) + dense++], 1e-5f);
                    continue;
                }

                int id = batch.Ids(sparse++)[i];
                IReadOnlyList<string> vocabulary = _dataset.Encoders.Tables.Single(table => table.Name == feature.Table).Vocabulary!;
                Assert.Equal(text, id == 0 ? "?" : vocabulary[id - 1]);
            }

            Assert.Equal(Field("income_50k") == "50000+." ? 1 : 0, batch.Labels(0)[i]);
            Assert.Equal(Field("marital_stat") == "Never married" ? 1 : 0, batch.Labels(1)[i]);
            bool college = new[] { "Bachelors", "Masters", "Prof school", "Doctorate" }.Any(start => Field("education").StartsWith(start, StringComparison.Ordinal));
            Assert.Equal(college ? 1 : 0, batch.Labels(2)[i]);
        }
    }

    private static float Transformed(FittedFeature feature, double value) => feature.Description.Transform == DenseTransform.Log
        ? (float)((Math.Log(1 + value) - feature.LogMean) / feature.LogDeviation)
        : (float)((value - feature.Statistics.Mean) / feature.Statistics.Deviation);

    private static string[] ReadLines()
    {
        string path = Path.Combine(Census.Folder, "..", "data", "census-income-kdd", "census-income.data.gz");
        using StreamReader reader = new(new GZipStream(File.OpenRead(path), CompressionMode.Decompress));
        List<string> lines = [];
        while (reader.ReadLine() is { } line)
            lines.Add(line);
        return [.. lines];
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
