using System.Diagnostics;
using System.Text.Json;
using CudaMoE.Description;
using CudaMoE.Metrics;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Metrics;

public sealed class MetricsTests(ITestOutputHelper output)
{
    [Fact]
    public void Binary_RandomRows_AgreeWithPlainSums()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        for (int trial = 0; trial < 300; trial++)
        {
            int rows = random.Next(2, 60);
            bool logits = random.Next(2) == 0;
            int levels = random.Next(1, 40); // Few levels make many ties.
            float[] scores = [.. Enumerable.Range(0, rows).Select(_ => logits ? (random.Next(levels) - (levels / 2)) * 0.7f : (float)random.Next(levels) / levels)];
            float[] labels = [.. Enumerable.Range(0, rows).Select(_ => random.Next(8) == 0 ? float.NaN : random.Next(6) == 0 ? random.NextSingle() : random.Next(2))];
            float[] weights = [.. Enumerable.Range(0, rows).Select(_ => random.Next(3) == 0 ? 0 : random.Next(4) == 0 ? 1 : random.NextSingle() * 3)];
            int[] groups = [.. Enumerable.Range(0, rows).Select(_ => random.Next(-2, 4))];
            bool weighted = random.Next(3) > 0;
            BinaryAccumulator accumulator = new("t", logits ? ScoreKind.Logit : ScoreKind.Probability);
            for (int start = 0; start < rows;)
            {
                int end = Math.Min(rows, start + random.Next(0, 20));
                accumulator.Add(scores.AsSpan(start..end), labels.AsSpan(start..end), weighted ? weights.AsSpan(start..end) : default, groups.AsSpan(start..end));
                start = end;
            }

            Row[] reference =
            [
                .. Enumerable.Range(0, rows).Select(i => new Row(scores[i], labels[i], weighted ? weights[i] : 1, groups[i])).Where(row => !double.IsNaN(row.Label) && row.Weight > 0),
            ];
            TaskMetrics metrics = accumulator.Compute();
            Assert.Equal(reference.Length, metrics.Rows);
            if (reference.Length == 0)
            {
                Assert.All(metrics.Values, value => Assert.Null(value.Value));
                continue;
            }

            double total = reference.Sum(row => row.Weight);
            double positive = reference.Sum(row => row.Weight * row.Label);
            double[] probabilities = [.. reference.Select(row => logits ? 1 / (1 + Math.Exp(-row.Score)) : row.Score)];
            double loss = 0;
            double right = 0;
            double predicted = 0;
            for (int i = 0; i < reference.Length; i++)
            {
                Row row = reference[i];
                double p = probabilities[i];
                loss -= row.Weight * ((row.Label == 0 ? 0 : row.Label * Math.Log(Math.Max(p, 1e-12))) + (row.Label == 1 ? 0 : (1 - row.Label) * Math.Log(Math.Max(1 - p, 1e-12))));
                right += (row.Score >= (logits ? 0 : 0.5)) == row.Label >= 0.5 ? row.Weight : 0;
                predicted += row.Weight * p;
            }

            double rate = positive / total;
            double entropy = -((rate * Math.Log(rate)) + ((1 - rate) * Math.Log(1 - rate)));
            bool bothClasses = positive > 0 && reference.Any(row => row.Label < 1);
            Check(metrics, "auc", NaiveAuc(reference));
            Check(metrics, "gauc", NaiveGauc(reference));
            Check(metrics, "log_loss", loss / total);
            Check(metrics, "ne", bothClasses ? loss / total / entropy : null);
            Check(metrics, "calibration", positive > 0 ? predicted / positive : null);
            Check(metrics, "accuracy", right / total);
            Assert.Equal(rate, metrics.MeanLabel!.Value, 9);
            Assert.Equal(predicted / total, metrics.MeanPrediction!.Value, 9);
            Assert.Equal(10, metrics.Calibration.Count);
            Assert.Equal(reference.Length, metrics.Calibration.Sum(bin => bin.Rows));
            Assert.Equal(total, metrics.Calibration.Sum(bin => bin.Weight), 9);
            Assert.Equal(predicted, metrics.Calibration.Sum(bin => bin.Weight * (bin.MeanPrediction ?? 0)), 9);
            Assert.Equal(positive, metrics.Calibration.Sum(bin => bin.Weight * (bin.MeanLabel ?? 0)), 9);
            Assert.All(metrics.Calibration.Where(bin => bin.Rows > 0), bin => Assert.InRange(bin.MeanPrediction!.Value, bin.Lower - 1e-12, bin.Upper + 1e-12));
        }
    }

    [Fact]
    public void Binary_SmallCase_HasTheValuesOfTheBook()
    {
        BinaryAccumulator accumulator = new("t");
        accumulator.Add([0.1f, 0.4f, 0.35f, 0.8f], [0, 0, 1, 1]);
        TaskMetrics metrics = accumulator.Compute();
        Assert.Equal(0.75, metrics.Find("auc")!.Value);
        Assert.Equal("the rows have no groups", metrics.Find("gauc")!.Undefined);
        Assert.Equal(0.47228795, metrics.Find("log_loss")!.Value!.Value, 7);
        Assert.Equal(0.47228795 / Math.Log(2), metrics.Find("ne")!.Value!.Value, 7);
        Assert.Equal(1.65 / 2, metrics.Find("calibration")!.Value!.Value, 7);
        Assert.Equal(0.75, metrics.Find("accuracy")!.Value);
        Assert.Equal(["auc", "gauc", "log_loss", "ne", "calibration", "accuracy"], metrics.Values.Select(value => value.Name));
        Assert.Null(metrics.Find("rmse"));
    }

    [Fact]
    public void Binary_AllPredictionsEqual_HaveAucOneHalf()
    {
        BinaryAccumulator accumulator = new("t", ScoreKind.Logit);
        accumulator.Add([-0f, 0f, 0f, -0f], [0, 1, 1, 0], [1, 2, 3, 4]);
        Assert.Equal(0.5, accumulator.Compute().Find("auc")!.Value);
    }

    [Fact]
    public void Binary_NothingToMeasure_IsUndefinedWithAReason()
    {
        BinaryAccumulator accumulator = new("t");
        Assert.All(accumulator.Compute().Values, value => Assert.Equal("there are no labelled rows", value.Undefined));
        accumulator.Add([0.5f, 0.5f], [float.NaN, 1], [1, 0]);
        Assert.All(accumulator.Compute().Values, value => Assert.Equal("there are no labelled rows", value.Undefined));
        accumulator.Add([0.5f], [1]);
        TaskMetrics positives = accumulator.Compute();
        Assert.Equal("all labels are of one class", positives.Find("auc")!.Undefined);
        Assert.Equal("all labels are of one class", positives.Find("ne")!.Undefined);
        Assert.Equal(0.5, positives.Find("calibration")!.Value);
        accumulator.Reset();
        accumulator.Add([0.5f], [0], [], [3]);
        TaskMetrics negatives = accumulator.Compute();
        Assert.Null(negatives.Find("auc")!.Value);
        Assert.Equal("there are no positive labels", negatives.Find("calibration")!.Undefined);
        Assert.Equal("no group has labels of both classes", negatives.Find("gauc")!.Undefined);
        accumulator.Reset();
        accumulator.Add([float.NaN, 0.5f, 1.5f], [1, 0, 1]);
        Assert.All(accumulator.Compute().Values, value => Assert.Equal("2 of 3 predictions are not from 0 to 1", value.Undefined));
        BinaryAccumulator logits = new("t", ScoreKind.Logit);
        logits.Add([float.NegativeInfinity, 3], [1, 0]);
        Assert.All(logits.Compute().Values, value => Assert.Equal("1 of 2 predictions are not finite", value.Undefined));
    }

    [Fact]
    public void Binary_ExtremePredictions_StayFinite()
    {
        BinaryAccumulator accumulator = new("t");
        accumulator.Add([0, 1], [1, 0]);
        Assert.Equal(-Math.Log(1e-12), accumulator.Compute().Find("log_loss")!.Value!.Value, 9);
        BinaryAccumulator logits = new("t", ScoreKind.Logit);
        logits.Add([100, -100, 40, 41], [0, 1, 1, 1]);
        Assert.Equal(50, logits.Compute().Find("log_loss")!.Value!.Value, 9);
        Assert.Equal(0, logits.Compute().Find("auc")!.Value);
    }

    [Fact]
    public void Binary_EqualCountBins_HoldAboutTheSameAndKeepTiesTogether()
    {
        BinaryAccumulator accumulator = new("t", bins: 4, binning: CalibrationBinning.EqualCount);
        accumulator.Add([0.1f, 0.1f, 0.1f, 0.1f, 0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f], [0, 0, 0, 0, 1, 1, 0, 1, 1, 1]);
        IReadOnlyList<CalibrationBin> bins = accumulator.Compute().Calibration;
        Assert.Equal([5L, 2L, 2L, 1L], bins.Select(bin => bin.Rows));
        Assert.Equal(0.2, bins[0].MeanLabel!.Value, 12);
        Assert.Equal(0.2f, bins[1].Lower);
        Assert.Equal(0.3f, bins[1].Upper);
    }

    [Fact]
    public void Add_WrongInput_IsNamed()
    {
        BinaryAccumulator binary = new("t");
        Assert.Contains("predictions has 1", Throws(() => binary.Add([0.5f], [0, 1])), StringComparison.Ordinal);
        Assert.Contains("weights has 1", Throws(() => binary.Add([0.5f, 0.5f], [0, 1], [1])), StringComparison.Ordinal);
        Assert.Contains("groups has 1", Throws(() => binary.Add([0.5f, 0.5f], [0, 1], default, [1])), StringComparison.Ordinal);
        Assert.Contains("labels[1] is 2", Throws(() => binary.Add([0.5f, 0.5f], [0, 2])), StringComparison.Ordinal);
        Assert.Contains("weights[0] is -1", Throws(() => binary.Add([0.5f], [0], [-1])), StringComparison.Ordinal);
        Assert.Contains("weights[0] is NaN", Throws(() => binary.Add([0.5f], [0], [float.NaN])), StringComparison.Ordinal);
        Assert.Contains("for all rows or for none", Throws(() => binary.Add([0.5f], [0], default, [1])), StringComparison.Ordinal);
        Assert.Contains("labels[0] is 3", Throws(() => new MulticlassAccumulator("m", 3).Add([0, 0, 1], [3])), StringComparison.Ordinal);
        Assert.Contains("labels[0] is 0.5", Throws(() => new MulticlassAccumulator("m", 3).Add([0, 0, 1], [0.5f])), StringComparison.Ordinal);
        Assert.Contains("labels[0] is", Throws(() => new RegressionAccumulator("r").Add([0], [float.PositiveInfinity])), StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => new MulticlassAccumulator("m", 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new BinaryAccumulator("m", bins: 0));

        static string Throws(Action action) => Assert.Throws<ArgumentException>(action).Message;
    }

    [Fact]
    public void Regression_WeightedRows_GiveRmseAndMae()
    {
        RegressionAccumulator accumulator = new("r");
        accumulator.Add([1, 5, 100, 3], [2, 3, float.NaN, 50], [1, 3, 1, 0]);
        TaskMetrics metrics = accumulator.Compute();
        Assert.Equal(Math.Sqrt(((1 * 1) + (3 * 4)) / 4d), metrics.Find("rmse")!.Value!.Value, 12);
        Assert.Equal(7 / 4d, metrics.Find("mae")!.Value);
        Assert.Equal(11 / 4d, metrics.MeanLabel);
        Assert.Equal(4, metrics.MeanPrediction);
        Assert.Equal(2, metrics.Rows);
        accumulator.Add([float.NaN], [1]);
        Assert.Equal("1 of 3 predictions are not finite", accumulator.Compute().Find("mae")!.Undefined);
        accumulator.Reset();
        Assert.Null(accumulator.Compute().Find("rmse")!.Value);
    }

    [Fact]
    public void Multiclass_Rows_GiveLogLossAndAccuracy()
    {
        MulticlassAccumulator accumulator = new("m", 3);
        accumulator.Add([0.5f, 0.25f, 0.25f, 0.25f, 0.25f, 0.5f, 0.4f, 0.4f, 0.2f, 1, 0, 0], [0, 1, 1, float.NaN], [1, 2, 1, 1]);
        TaskMetrics metrics = accumulator.Compute();
        Assert.Equal(-(Math.Log(0.5) + (2 * Math.Log(0.25)) + Math.Log(0.4f)) / 4, metrics.Find("log_loss")!.Value!.Value, 12);
        Assert.Equal(0.25, metrics.Find("accuracy")!.Value);
        accumulator.Add([0, 0, 1], [0]);
        Assert.Equal((-(Math.Log(0.5) + (2 * Math.Log(0.25)) + Math.Log(0.4f)) - Math.Log(1e-12)) / 5, accumulator.Compute().Find("log_loss")!.Value!.Value, 9);
        accumulator.Add([0.5f, float.NaN, 0.5f], [0]);
        Assert.Equal("1 of 5 predictions are not from 0 to 1", accumulator.Compute().Find("accuracy")!.Undefined);
    }

    [Fact]
    public void Summarize_MeanOrOneTask_GivesTheWatchedValue()
    {
        MetricSet set = new(
        [
            TaskAccumulator.Create(new() { Name = "a", Type = TaskType.Binary }),
            TaskAccumulator.Create(new() { Name = "b", Type = TaskType.Binary }, scores: ScoreKind.Logit),
            TaskAccumulator.Create(new() { Name = "r", Type = TaskType.Regression }),
            TaskAccumulator.Create(new() { Name = "m", Type = TaskType.Multiclass }, classes: 2),
        ]);
        set.Tasks[0].Add([0.1f, 0.9f], [0, 1]);
        set.Tasks[1].Add([1, 1], [0, 1]);
        set.Tasks[2].Add([1], [3]);
        IReadOnlyList<TaskMetrics> metrics = set.Compute();
        Assert.Equal(0.75, MetricSet.Summarize(metrics, new()).Value);
        Assert.Equal(0.5, MetricSet.Summarize(metrics, new() { Metric = "b/auc" }).Value);
        Assert.Equal(0.875, MetricSet.Summarize(metrics, new() { TaskWeights = [3, 1, 5, 5] }).Value);
        Assert.Equal(2, MetricSet.Summarize(metrics, new() { Metric = "rmse" }).Value);
        Assert.Contains("m/log_loss is undefined: there are no labelled rows", MetricSet.Summarize(metrics, new() { Metric = "log_loss" }).Undefined, StringComparison.Ordinal);
        Assert.NotNull(MetricSet.Summarize(metrics, new() { Metric = "log_loss", TaskWeights = [1, 1, 1, 0] }).Value);
        Assert.Equal("no task has it", MetricSet.Summarize(metrics, new() { Metric = "r/auc" }).Undefined);
        Assert.True(MetricSet.HigherIsBetter("b/auc"));
        Assert.False(MetricSet.HigherIsBetter("log_loss"));
        Assert.Throws<ArgumentException>(() => MetricSet.HigherIsBetter("calibration"));
        set.Reset();
        Assert.All(set.Compute(), task => Assert.Equal(0, task.Rows));
        string json = JsonSerializer.Serialize(metrics);
        Assert.Equal(json, JsonSerializer.Serialize(JsonSerializer.Deserialize<TaskMetrics[]>(json)));
    }

    [Fact]
    public void Compute_AMillionRows_IsRightAndNotQuadratic()
    {
        const int rows = 1_000_000;
        Random random = new(1);
        float[] scores = [.. Enumerable.Range(0, rows).Select(_ => random.NextSingle())];
        float[] labels = [.. scores.Select(score => random.NextSingle() < score ? 1f : 0f)];
        float[] weights = [.. scores.Select(_ => random.NextSingle())];
        int[] groups = [.. scores.Select(_ => random.Next(20_000))];
        double best = double.PositiveInfinity;
        for (int repeat = 0; repeat < 3; repeat++)
        {
            BinaryAccumulator accumulator = new("t");
            long start = Stopwatch.GetTimestamp();
            for (int row = 0; row < rows; row += 4096)
            {
                int count = Math.Min(4096, rows - row);
                accumulator.Add(scores.AsSpan(row, count), labels.AsSpan(row, count), weights.AsSpan(row, count), groups.AsSpan(row, count));
            }

            TaskMetrics metrics = accumulator.Compute();
            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds);
            Assert.Equal(5d / 6, metrics.Find("auc")!.Value!.Value, 2);
            Assert.Equal(5d / 6, metrics.Find("gauc")!.Value!.Value, 2);
        }

        // An optimised build takes about 0.2 s; the limit is for debug builds on busy machines. Quadratic work would take minutes.
        output.WriteLine($"{best:F3} s");
        Assert.True(best < 10, $"took {best:F3} s");
    }

    private static double? NaiveAuc(IReadOnlyList<Row> rows)
    {
        double right = 0;
        double pairs = 0;
        foreach (Row positive in rows)
        {
            foreach (Row negative in rows)
            {
                double weight = positive.Weight * positive.Label * negative.Weight * (1 - negative.Label);
                pairs += weight;
                right += weight * (positive.Score > negative.Score ? 1 : positive.Score == negative.Score ? 0.5 : 0);
            }
        }

        return pairs > 0 ? right / pairs : null;
    }

    private static double? NaiveGauc(IReadOnlyList<Row> rows)
    {
        double sum = 0;
        double total = 0;
        foreach (IGrouping<int, Row> group in rows.GroupBy(row => row.Group))
        {
            if (NaiveAuc([.. group]) is not { } auc)
                continue;
            double weight = group.Sum(row => row.Weight);
            sum += weight * auc;
            total += weight;
        }

        return total > 0 ? sum / total : null;
    }

    private static void Check(TaskMetrics metrics, string name, double? expected)
    {
        MetricValue value = metrics.Find(name)!;
        Assert.Equal(expected is null, value.Value is null);
        Assert.Equal(value.Value is null, value.Undefined is not null);
        if (expected is { } number)
            Assert.True(Math.Abs(number - value.Value!.Value) <= 1e-10 * Math.Max(1, Math.Abs(number)), $"{name} is {value.Value}; expected {number}");
    }

    private sealed record Row(double Score, double Label, double Weight, int Group);
}
