using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Data;

/// <summary>From text through cache and loader to batches: splits and content.</summary>
public sealed class DatasetTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(1, 12)]
    [InlineData(2026, 12)]
    public void Open_RandomTables_EqualANaiveReader(int seed, int tables)
    {
        Random random = new(seed);
        for (int i = 0; i < tables; i++)
        {
            // Around one and several blocks of 64 rows.
            NaiveTable table = new(random, new[] { 2, 3, 63, 64, 65, 128, 300 }[random.Next(7)]);
            string text = table.Text(random);
            string name = random.Next(2) == 0 ? "train.csv" : "train.csv.gz";
            _folder.Write(name, name == "train.csv" ? System.Text.Encoding.UTF8.GetBytes(text) : TestFiles.Gzip(text));
            ModelDescription model = NaiveTable.Description with { Data = NaiveTable.Description.Data! with { Train = [name] } };
            using Dataset data = Dataset.Open(model, _folder.Root);
            Assert.True(data.WasBuilt);
            string[] expected = table.Encode([.. Enumerable.Range(0, table.Count)]);
            int batchSize = random.Next(1, 100);
            foreach (bool shuffle in new[] { false, true })
            {
                Permutation order = new(table.Count, 9, 4);
                LoaderOptions options = new() { BatchSize = batchSize, Shuffle = shuffle, Seed = 9, Epoch = 4, Prefetch = random.Next(1, 5) };
                string[] actual = Lines(data.Train, options);
                Assert.Equal(Enumerable.Range(0, table.Count).Select(row => expected[shuffle ? (int)order[row] : row]), actual);
            }

            using PredictionReader reader = Dataset.OpenForPrediction(data.Encoders, _folder[name], withLabels: true);
            Assert.Equal(expected, Lines(reader, batchSize));
        }
    }

    [Theory]
    [InlineData(SplitSource.Train, 0.25)]
    [InlineData(SplitSource.Test, 0.5)]
    [InlineData(SplitSource.Test, 0.001)]
    [InlineData(SplitSource.Train, 0.999)]
    public void Open_ValidationSplit_IsDisjointCompleteAndFitsOnTheRest(SplitSource from, double fraction)
    {
        const int Rows = 400;
        Random random = new(4);
        NaiveTable table = new(random, Rows);
        _folder.Write("whole.csv", table.Text(random));
        string other = from == SplitSource.Train ? "test.csv" : "train.csv";
        _folder.Write(other, new NaiveTable(random, 70).Text(random));
        ModelDescription Model(ulong seed) => NaiveTable.Description with
        {
            Data = NaiveTable.Description.Data! with
            {
                Train = [from == SplitSource.Train ? "whole.csv" : other],
                Test = [from == SplitSource.Train ? other : "whole.csv"],
                ValidationSplit = new() { From = from, Fraction = fraction, Seed = seed },
            },
        };

        using Dataset data = Dataset.Open(Model(1), _folder.Root);
        DatasetSplit rest = from == SplitSource.Train ? data.Train : data.Test!;
        int carved = Math.Max((int)Math.Round(fraction * Rows), 1);
        carved = Math.Min(carved, Rows - 1);
        Assert.Equal(carved, data.Validation!.Rows);
        Assert.Equal(Rows - carved, rest.Rows);

        // The chosen rows, by the rule that they come first in the permutation; all values follow from the rows that remain for training.
        Permutation order = new(Rows, 1, (ulong)from);
        int[] validation = [.. Enumerable.Range(0, Rows).Where(row => order[row] < carved)];
        int[] remaining = [.. Enumerable.Range(0, Rows).Except(validation)];
        Assert.Equal(carved, validation.Length);
        if (from == SplitSource.Train)
        {
            Assert.Equal(remaining.Length, data.Encoders.TrainingRows);
            string[] expected = table.Encode(remaining);
            Assert.Equal(remaining.Select(row => expected[row]), Lines(rest, new() { BatchSize = 64 }));
            Assert.Equal(validation.Select(row => expected[row]), Lines(data.Validation, new() { BatchSize = 64 }));
        }

        using Dataset same = Dataset.Open(Model(1) with { Name = "again" }, _folder.Root);
        Assert.False(same.WasBuilt);
        if (carved is > 1 and < Rows - 1)
        {
            using Dataset otherSeed = Dataset.Open(Model(2), _folder.Root);
            Assert.NotEqual(Lines(data.Validation, new() { BatchSize = 64 }), Lines(otherSeed.Validation!, new() { BatchSize = 64 }));
        }
    }

    [Fact]
    public void Open_SeveralFilesAndSplits_KeepTheirOrder()
    {
        _folder.Write("a.csv", "x,y\n1,0\n2,1\n");
        _folder.Write("b.csv", "y,x\n1,3\n");
        _folder.Write("v.csv", "x,y\n4,0\n");
        _folder.Write("t.csv", "x,y\n5,0\n6,1\n");
        using Dataset data = Dataset.Open(
            Describe.Model([Describe.X], [Describe.Y], new() { Train = ["a.csv", "b.csv"], Validation = ["v.csv"], Test = ["t.csv"] }), _folder.Root);
        Assert.Equal([1, 2, 3], Dense(data.Train));
        Assert.Equal([4], Dense(data.Validation!));
        Assert.Equal([5, 6], Dense(data.Test!));
        Assert.Equal("train", data.Train.Name);
    }

    [Fact]
    public void Open_NoOtherFiles_HasNoOtherSplits()
    {
        _folder.Write("train.csv", "x,y\n1,0\n2,1\n");
        using Dataset data = Dataset.Open(Describe.Model([Describe.X], [Describe.Y]), _folder.Root);
        Assert.Null(data.Validation);
        Assert.Null(data.Test);
    }

    [Fact]
    public void Open_FilesWithoutRowsOrNotThere_AreNamed()
    {
        _folder.Write("train.csv", "x,y\n1,0\n2,1\n");
        _folder.Write("test.csv", "x,y\n");
        DataDescription data = new() { Train = ["train.csv"], Test = ["test.csv"] };
        DataException error = Assert.Throws<DataException>(() => Dataset.Open(Describe.Model([Describe.X], [Describe.Y], data), _folder.Root));
        Assert.Contains("test.csv: the file has a header, but no rows", error.Message, StringComparison.Ordinal);
        data = data with { Test = ["absent.csv"] };
        error = Assert.Throws<DataException>(() => Dataset.Open(Describe.Model([Describe.X], [Describe.Y], data), _folder.Root));
        Assert.Contains("absent.csv: there is no such file", error.Message, StringComparison.Ordinal);
        Assert.Throws<DescriptionException>(() => Dataset.Open(Describe.Model([Describe.X], [Describe.Y]) with { Data = null }, _folder.Root));
        Assert.Empty(Directory.EnumerateDirectories(_folder[".cudamoe-cache"]));
    }

    [Fact]
    public void Open_WithEncodersOfACheckpoint_ReadsAsItsTrainingRowsWere()
    {
        _folder.Write("train.csv", "c,x,y\na,1,0\nb,3,1\n");
        _folder.Write("test.csv", "c,x,y\nb,5,0\nz,1,1\n");
        FeatureDescription x = Describe.X with { Transform = DenseTransform.Standardize };
        ModelDescription model = Describe.Model([Describe.Category("c"), x], [Describe.Y]);
        string path = _folder["encoders.json"];
        using (Dataset data = Dataset.Open(model, _folder.Root))
            data.Encoders.Save(path);

        FittedEncoders encoders = FittedEncoders.Load(path);
        using Dataset other = Dataset.Open(model with { Data = new() { Train = ["test.csv"] } }, _folder.Root, encoders);
        Assert.Equal([3, -1], Dense(other.Train));
        Assert.Equal(encoders.Fingerprint, other.Encoders.Fingerprint);
        DataException error = Assert.Throws<DataException>(() => Dataset.Open(
            Describe.Model([Describe.Category("c"), x with { Transform = DenseTransform.Log }], [Describe.Y]), _folder.Root, encoders));
        Assert.Contains("\"x\"", error.Message, StringComparison.Ordinal);
    }

    private static float[] Dense(DatasetSplit split)
    {
        using Batch batch = new(split.Layout, (int)split.Rows);
        split.Gather([.. Enumerable.Range(0, (int)split.Rows).Select(i => (long)i)], batch);
        return batch.Dense.ToArray();
    }

    private static string[] Lines(DatasetSplit split, LoaderOptions options)
    {
        List<string> lines = [];
        using BatchLoader loader = split.CreateLoader(options);
        while (loader.TryTake(out Batch? batch))
        {
            lines.AddRange(NaiveTable.Lines(batch));
            loader.Return(batch);
        }

        return [.. lines];
    }

    private static string[] Lines(PredictionReader reader, int batchSize)
    {
        List<string> lines = [];
        using Batch batch = new(reader.Layout, batchSize);
        while (reader.Read(batch))
            lines.AddRange(NaiveTable.Lines(batch));
        return [.. lines];
    }
}
