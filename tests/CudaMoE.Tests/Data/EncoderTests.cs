using System.Globalization;
using System.Text;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Data;

/// <summary>Each encoder on small files, beside values worked out by hand or by a plain formula.</summary>
public sealed class EncoderTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Vocabulary_Texts_AreNumberedByCountThenText()
    {
        FeatureDescription feature = Describe.Category("c");
        using Dataset data = Open(feature, "b", "a", "c", "c", "b", "?", "é");
        Assert.Equal(["b", "c", "a", "é"], data.Encoders.Tables[0].Vocabulary);
        Assert.Equal([1, 3, 2, 2, 1, 0, 4], Ids(data.Train));
        Assert.Equal(5, data.Layout.Sparse[0].Rows);
        FeatureStatistics statistics = data.Encoders.Features[0].Statistics;
        Assert.Equal((6, 1, 4), (statistics.Present, statistics.Missing, statistics.Distinct));
    }

    [Fact]
    public void Vocabulary_MinCountAndBuckets_DropTheRarest()
    {
        using Dataset rare = Open(Describe.Category("c") with { MinCount = 2 }, "b", "a", "c", "c", "b", "b");
        Assert.Equal([1, 0, 2, 2, 1, 1], Ids(rare.Train));
        using Dataset few = Open(Describe.Category("c", buckets: 3), "b", "a", "c", "c", "b", "b");
        Assert.Equal(["b", "c"], few.Encoders.Tables[0].Vocabulary);
        Assert.Equal(3, few.Layout.Sparse[0].Rows);
        using Dataset none = Open(Describe.Category("c") with { MinCount = 9 }, "b", "a");
        Assert.Equal([0, 0], Ids(none.Train));
        Assert.Equal(1, none.Layout.Sparse[0].Rows);
    }

    [Fact]
    public void Vocabulary_TextsOfOtherSplits_AreUnknown()
    {
        _folder.Write("test.csv", "c,y\nz,1\na,0\n");
        _folder.Write("train.csv", "c,y\na,1\nb,0\n");
        using Dataset data = Dataset.Open(
            Describe.Model([Describe.Category("c")], [Describe.Y], new() { Train = ["train.csv"], Test = ["test.csv"] }), _folder.Root);
        Assert.Equal([0, 1], Ids(data.Test!));
    }

    [Fact]
    public void Vocabulary_SharedTable_CountsAllItsFeatures()
    {
        FeatureDescription left = Describe.Category("l") with { Table = "t" };
        FeatureDescription right = Describe.Category("r") with { Table = "t", Type = FeatureType.MultiHot };
        _folder.Write("train.csv", "l,r,y\na,b|b,1\nc,b|a,0\n");
        using Dataset data = Dataset.Open(Describe.Model([left, right], [Describe.Y]), _folder.Root);
        Assert.Equal(["b", "a", "c"], Assert.Single(data.Encoders.Tables).Vocabulary);
        Assert.Equal([2, 3], Ids(data.Train));
        Assert.Equal([[1, 1], [1, 2]], Bags(data.Train, 1));
        DescriptionException error = Assert.Throws<DescriptionException>(() => Dataset.Open(
            Describe.Model([left, right with { Dimension = 5 }], [Describe.Y]), _folder.Root));
        Assert.Contains("\"t\"", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Hash_Texts_FollowTheFormula()
    {
        string[] texts = ["a", "b", "?", "münchen", "12"];
        using Dataset data = Open(Describe.Category("c", CategoryEncoding.Hash, buckets: 7), texts);
        Assert.Equal(texts.Select(text => text == "?" ? 0 : 1 + (int)(XxHash64.Hash(Encoding.UTF8.GetBytes(text)) % 6)), Ids(data.Train));
        Assert.Equal(7, data.Layout.Sparse[0].Rows);
    }

    [Fact]
    public void Identity_Texts_AreTheIdOrUnknown()
    {
        using Dataset data = Open(Describe.Category("c", CategoryEncoding.Identity, buckets: 5), "1", "4", "5", "0", "-1", "x", "2.0", "?", "99999999999999999999");
        Assert.Equal([1, 4, 0, 0, 0, 0, 0, 0, 0], Ids(data.Train));
    }

    [Fact]
    public void MultiHot_Bags_KeepOrderAndLimit()
    {
        FeatureDescription feature = new() { Name = "c", Type = FeatureType.MultiHot, Dimension = 4, Pooling = PoolingKind.Sum };
        string[] texts = ["a|b|a", "?", "c", "b||?| a ", "a|b|c|d|e"];
        using Dataset all = Open(feature, texts);
        Assert.Equal(["a", "b", "c", "d", "e"], all.Encoders.Tables[0].Vocabulary);
        Assert.Equal([[1, 2, 1], [], [3], [2, 1], [1, 2, 3, 4, 5]], Bags(all.Train, 0));
        Assert.Equal(5, all.Layout.Sparse[0].MaxLength);
        Assert.Equal(PoolingKind.Sum, all.Layout.Sparse[0].Pooling);
        using Dataset two = Open(feature with { MaxLength = 2 }, texts);
        Assert.Equal(["a", "b", "c"], two.Encoders.Tables[0].Vocabulary);
        Assert.Equal([[1, 2], [], [3], [2, 1], [1, 2]], Bags(two.Train, 0));
        using Dataset spaced = Open(feature with { ValueSeparator = " ", Encoding = CategoryEncoding.Identity, Buckets = 9 }, "3 4  5", "x 3");
        Assert.Equal([[3, 4, 5], [0, 3]], Bags(spaced.Train, 0));
    }

    [Fact]
    public void Sequence_Values_KeepOrderAndTheWantedEnd()
    {
        FeatureDescription feature = new() { Name = "c", Type = FeatureType.Sequence, Dimension = 4, MaxLength = 3 };
        string[] texts = ["a|b|a", "?", "b||?| a ", "x|y|b|c|a"];
        using Dataset last = Open(feature, texts);
        Assert.Equal(["a", "b", "c"], last.Encoders.Tables[0].Vocabulary);
        Assert.Equal([[1, 2, 1], [], [2, 1], [2, 3, 1]], Bags(last.Train, 0));
        SparseInput input = last.Layout.Sparse[0];
        Assert.Equal((3, 3, 12), (input.MaxLength, input.Positions, input.Width));
        using Dataset first = Open(feature with { Keep = SequenceEnd.First }, texts);
        Assert.Equal(["a", "b", "x", "y"], first.Encoders.Tables[0].Vocabulary);
        Assert.Equal([[1, 2, 1], [], [2, 1], [3, 4, 2]], Bags(first.Train, 0));
        using Dataset identity = Open(feature with { Encoding = CategoryEncoding.Identity, Buckets = 9, MaxLength = 2 }, "3 | 4|5|12", "x|3");
        Assert.Equal([[5, 0], [0, 3]], Bags(identity.Train, 0));
    }

    [Fact]
    public void Sequence_SharedTable_HasOneVocabularyWithTheItem()
    {
        FeatureDescription item = Describe.Category("item") with { Table = "items" };
        FeatureDescription history = Describe.Category("history") with { Table = "items", Type = FeatureType.Sequence, MaxLength = 2 };
        _folder.Write("train.csv", "item,history,y\na,c|b|b,1\nc,b|a,0\n");
        using Dataset data = Dataset.Open(Describe.Model([item, history], [Describe.Y]), _folder.Root);
        Assert.Equal(["b", "a", "c"], Assert.Single(data.Encoders.Tables).Vocabulary);
        Assert.Equal([2, 3], Ids(data.Train));
        Assert.Equal([[1, 1], [1, 2]], Bags(data.Train, 1));
    }

    [Theory]
    [InlineData(DenseTransform.None)]
    [InlineData(DenseTransform.Standardize)]
    [InlineData(DenseTransform.MinMax)]
    [InlineData(DenseTransform.Log)]
    public void Dense_Transform_EqualsThePlainFormula(DenseTransform transform)
    {
        double[] values = [1600000000, 1600000123, -5.5, 0, 1e-3, 1599999999];
        string[] texts = [.. values.Select(value => value.ToString("R", CultureInfo.InvariantCulture)), "?", "+1.5e9"];
        using Dataset data = Open(new() { Name = "c", Type = FeatureType.Dense, Transform = transform }, texts);
        double[] known = [.. values, 1.5e9];
        double mean = known.Average();
        double[] filled = [.. values, mean, 1.5e9];
        double[] expected = transform switch
        {
            DenseTransform.None => filled,
            DenseTransform.Standardize => Standardize(filled, known),
            DenseTransform.MinMax => [.. filled.Select(value => (value - known.Min()) / (known.Max() - known.Min()))],
            _ => Standardize([.. filled.Select(Log)], [.. known.Select(Log)]),
        };
        float[] actual = Dense(data.Train);
        for (int i = 0; i < expected.Length; i++)
            Assert.Equal(expected[i], actual[i], Math.Max(1e-6, Math.Abs(expected[i]) * 1e-6));

        static double Log(double value) => Math.Sign(value) * Math.Log(1 + Math.Abs(value));
        static double[] Standardize(double[] values, double[] known)
        {
            double mean = known.Average();
            double deviation = Math.Sqrt(known.Average(value => (value - mean) * (value - mean)));
            return [.. values.Select(value => (value - mean) / deviation)];
        }
    }

    [Theory]
    [InlineData(DenseTransform.Standardize, 0)]
    [InlineData(DenseTransform.MinMax, 0)]
    [InlineData(DenseTransform.Log, 0)]
    [InlineData(DenseTransform.None, 7)]
    public void Dense_OneValue_HasNoSpread(DenseTransform transform, float expected)
    {
        using Dataset data = Open(new() { Name = "c", Type = FeatureType.Dense, Transform = transform }, "7", "7", "?");
        Assert.Equal([expected, expected, expected], Dense(data.Train));
        using Dataset empty = Open(new() { Name = "c", Type = FeatureType.Dense, Transform = transform }, "?", "?");
        Assert.Equal([0, 0], Dense(empty.Train));
        Assert.Contains("feature \"c\" has no value in any training row", empty.Notices);
    }

    [Fact]
    public void MinMax_BeyondTheTrainingRange_IsClamped()
    {
        _folder.Write("test.csv", "c,y\n-9,1\n15,0\n99,1\n");
        _folder.Write("train.csv", "c,y\n10,1\n20,0\n");
        FeatureDescription feature = new() { Name = "c", Type = FeatureType.Dense, Transform = DenseTransform.MinMax };
        using Dataset data = Dataset.Open(Describe.Model([feature], [Describe.Y], new() { Train = ["train.csv"], Test = ["test.csv"] }), _folder.Root);
        Assert.Equal([0, 0.5f, 1], Dense(data.Test!));
    }

    [Theory]
    [InlineData(1, 4, 100)]
    [InlineData(2, 10, 10)]
    [InlineData(3, 7, 3)]
    [InlineData(4, 2, 1001)]
    public void Quantile_Values_FallIntoEqualShares(int seed, int buckets, int count)
    {
        Random random = new(seed);
        double[] values = [.. Enumerable.Range(0, count).Select(_ => Math.Round(random.NextDouble() * 50, 1))];
        FeatureDescription feature = new() { Name = "c", Type = FeatureType.Dense, Transform = DenseTransform.Quantile, Buckets = buckets, Dimension = 4 };
        using Dataset data = Open(feature, [.. values.Select(value => value.ToString(CultureInfo.InvariantCulture)), "?"]);
        double[] sorted = [.. values.Order()];
        int[] expected = [.. values.Select(value => 1 + Enumerable.Range(1, buckets - 1).Count(j => sorted[j * count / buckets] <= value)), 0];
        Assert.Equal(expected, Ids(data.Train));
        Assert.Equal(buckets + 1, data.Layout.Sparse[0].Rows);
        Assert.Equal(0, data.Layout.DenseWidth);
    }

    [Fact]
    public void QuantileSample_BeyondItsCapacity_IsCloseToTheQuantiles()
    {
        QuantileSample sample = new(capacity: 10_000);
        for (int i = 0; i < 400_000; i++)
            sample.Add((i * 7919L) % 400_000);
        double[] boundaries = sample.Boundaries(4);
        for (int j = 0; j < 3; j++)
            Assert.Equal((j + 1) * 100_000, boundaries[j], 400_000 * 0.03);
    }

    [Fact]
    public void Vector_Values_AreTakenAsTheyAre()
    {
        FeatureDescription vector = new() { Name = "c", Type = FeatureType.Vector, Size = 3, ValueSeparator = ";" };
        using Dataset data = Open(vector, "1;2.5;-3e2", "?", "0; 7 ;8");
        Assert.Equal([1, 2.5f, -300, 0, 0, 0, 0, 7, 8], Dense(data.Train));
        AssertFails(() => Open(vector, "1;2;3", "1;2"), 3, "the vector has 2 values; feature \"c\" has size 3, separated by ';'");
        AssertFails(() => Open(vector, "1;x;3"), 2, "value 2 of the vector, \"x\", is not a finite number");
        AssertFails(() => Open(vector, "1;;3"), 2, "value 2 of the vector, \"\", is not a finite number");
    }

    [Theory]
    [InlineData("abc")]
    [InlineData("1,2")]
    [InlineData("NaN")]
    [InlineData("Infinity")]
    [InlineData("1e999")]
    [InlineData("0x10")]
    [InlineData("1 2")]
    public void Dense_NotANumber_NamesFileLineColumnAndValue(string text)
    {
        string quoted = $"\"{text}\"";
        AssertFails(() => Open(new() { Name = "c", Type = FeatureType.Dense }, "1", quoted), 3, $"\"{text}\" is not a finite number");
    }

    [Fact]
    public void Dense_BeyondFloat_IsRefused() =>
        AssertFails(() => Open(Describe.X with { Name = "c" }, "1", "1e39"), 3, "beyond the range of a 32-bit float");

    private static void AssertFails(Action open, long line, string rule)
    {
        DataException error = Assert.Throws<DataException>(open);
        Assert.Contains(rule, error.Message, StringComparison.Ordinal);
        Assert.Contains($"train.csv, line {line}, column \"c\": ", error.Message, StringComparison.Ordinal);
        Assert.Equal((line, "c"), (error.Line, error.Column));
    }

    private static int[] Ids(DatasetSplit split)
    {
        using Batch batch = All(split);
        return batch.Ids(0).ToArray();
    }

    private static float[] Dense(DatasetSplit split)
    {
        using Batch batch = All(split);
        return batch.Dense.ToArray();
    }

    private static unsafe int[][] Bags(DatasetSplit split, int input)
    {
        using Batch batch = All(split);
        int* offsets = batch.OffsetsPointer(input);
        int[][] bags = new int[batch.Rows][];
        for (int i = 0; i < bags.Length; i++)
            bags[i] = batch.Ids(input)[offsets[i]..offsets[i + 1]].ToArray();
        return bags;
    }

    private static Batch All(DatasetSplit split)
    {
        Batch batch = new(split.Layout, (int)split.Rows);
        split.Gather([.. Enumerable.Range(0, (int)split.Rows).Select(i => (long)i)], batch);
        return batch;
    }

    // One feature in column c, "?" and the empty field missing.
    private Dataset Open(FeatureDescription feature, params string[] texts)
    {
        _folder.Write("train.csv", "c,y\n" + string.Concat(texts.Select(text => $"{text},1\n")));
        return Dataset.Open(Describe.Model([feature], [Describe.Y], new() { Format = new() { Missing = ["?"] }, Train = ["train.csv"] }), _folder.Root);
    }
}
