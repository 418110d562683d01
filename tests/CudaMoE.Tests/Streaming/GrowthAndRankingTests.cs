using CudaMoE.Description;
using CudaMoE.Streaming.Xsmoe;
using CudaMoE.Streaming;
using CudaMoE.Training;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Streaming;

/// <summary>Pruning, expansion and ranking: what they do to weights and scores.</summary>
public sealed class GrowthAndRankingTests(ITestOutputHelper output)
{
    private const int Width = 5;
    private const int Adapter = 2;

    [Theory]
    [InlineData(new double[] { 9, 1 }, -1)] // a mixture's only expert has the share 1
    [InlineData(new double[] { 9, 95, 5 }, 1)]
    [InlineData(new double[] { 9, 90, 10 }, -1)] // the threshold itself stays
    [InlineData(new double[] { 0, 3, 1, 1, 40 }, 1)] // one only, the first of equals
    [InlineData(new double[] { 5, 0, 0 }, -1)] // nothing was used, so nothing is known
    public void ToPrune_Utilization_NamesTheLeastUsedBelowTheThreshold(double[] utilization, int expected) =>
        Assert.Equal(expected, ExpertGrowth.ToPrune(utilization, 0.1));

    [Fact]
    public void Apply_PruneThenExpand_RemovesTheExpertAndItsRowAndAddsTheMeanOfTheRest()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        foreach (RouterStart start in Enum.GetValues<RouterStart>())
        {
            Dictionary<string, float[]> weights = Weights(random, 3);
            Dictionary<string, float[]> before = weights.ToDictionary(entry => entry.Key, entry => entry.Value.ToArray());
            SideShape side = new() { Name = "text", Width = Width, Layers = [new(3, 2)] };

            SideShape grown = ExpertGrowth.Apply([side], Adapter, weights, [[[1, 50, 2, 48]]], new() { RouterStart = start }, seed: 4, window: 2)[0];

            Assert.Equal(new SideExperts(3, 2), grown.Layers[0]);
            Assert.Equal(7, weights.Count);
            foreach (string part in (string[])["down", "up"])
            {
                float[] first = before[$"text.layers.0.experts.0.{part}"], last = before[$"text.layers.0.experts.2.{part}"];
                Assert.Equal(first, weights[$"text.layers.0.experts.0.{part}"]);
                Assert.Equal(last, weights[$"text.layers.0.experts.1.{part}"]);
                Assert.Equal(first.Zip(last, (a, b) => (float)(((double)a + b) / 2)), weights[$"text.layers.0.experts.2.{part}"]);
            }

            // Rows of the router: the encoder's, those of the experts that stay, the new one's.
            float[] old = before["text.layers.0.router.weight"], rows = weights["text.layers.0.router.weight"];
            Assert.Equal(4 * Width, rows.Length);
            Assert.Equal(old[..(2 * Width)], rows[..(2 * Width)]);
            Assert.Equal(old[(3 * Width)..], rows[(2 * Width)..(3 * Width)]);
            if (start == RouterStart.Mean)
                Assert.Equal(rows[Width..(2 * Width)].Zip(rows[(2 * Width)..(3 * Width)], (a, b) => (float)(((double)a + b) / 2)), rows[(3 * Width)..]);
            else
                Assert.All(rows[(3 * Width)..], value => Assert.InRange(Math.Abs(value), 1e-9, 1 / Math.Sqrt(Width)));
        }
    }

    [Fact]
    public void Apply_Options_TurnOffWhatTheyName()
    {
        SideShape side = new() { Name = "text", Width = Width, Layers = [new(2, 1)] };
        double[][][] unused = [[[1, 99, 1]]];
        Assert.Equal(new SideExperts(2, 1), Grow(new() { Expand = false, Prune = false }));
        Assert.Equal(new SideExperts(1, 1), Grow(new() { Expand = false }));
        Assert.Equal(new SideExperts(3, 2), Grow(new() { Prune = false }));
        Assert.Equal(new SideExperts(2, 0), Grow(new() { Freeze = false }));

        SideExperts Grow(GrowthDescription growth) => ExpertGrowth.Apply([side], Adapter, Weights(new(1), 2), unused, growth, 1, 1)[0].Layers[0];
    }

    [Fact]
    public void Apply_TooManyExperts_SaysWhatToDo()
    {
        SideShape side = new() { Name = "text", Width = Width, Layers = [new(XsmoeShape.MaxExperts, 0)] };
        double[] equal = [.. Enumerable.Repeat(1.0, XsmoeShape.MaxExperts + 1)];
        DescriptionException error = Assert.Throws<DescriptionException>(
            () => ExpertGrowth.Apply([side], Adapter, Weights(new(1), XsmoeShape.MaxExperts), [[equal]], new() { PruneThreshold = 0 }, 1, 1));
        Assert.Contains("more than 63 experts", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Rank_RandomScores_IsOneMoreThanTheGreaterOnes()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        for (int round = 0; round < 200; round++)
        {
            int items = random.Next(1, 30);
            float[] scores = [.. Enumerable.Range(0, items + 1).Select(_ => (float)random.Next(6))];
            bool[] candidates = [false, .. Enumerable.Range(0, items).Select(_ => random.Next(4) > 0)];
            int[] met = [.. Enumerable.Range(0, random.Next(6)).Select(_ => random.Next(1, items + 5))];
            int target = random.Next(1, items + 1);
            candidates[target] = true;
            int expected = met.Contains(target)
                ? 0
                : 1 + Enumerable.Range(1, items).Count(item => candidates[item] && !met.Contains(item) && scores[item] > scores[target]);
            Assert.Equal(expected, FullRanking.Rank([.. scores], target, met, candidates));
        }
    }

    [Fact]
    public void Rank_EqualScores_IsTheBestOfThem() => Assert.Equal(2, FullRanking.Rank([0, 3, 3, 5, 3], 4, [], [false, true, true, true, true]));

    [Fact]
    public void Rank_NotANumber_IsAnError() =>
        Assert.Throws<NonFiniteException>(() => FullRanking.Rank([0, 1, float.NaN], 1, [], [false, true, true]));

    [Fact]
    public void Metrics_OfRanks_AreTheirMeans()
    {
        RankingMetrics metrics = RankingMetrics.Of([1, 3, 10, 11, 20, 21, 0, 500]);
        Assert.Equal(8, metrics.Sequences);
        Assert.Equal(3 / 8.0, metrics.HitRate10, 12);
        Assert.Equal((1 + 0.5 + (1 / Math.Log2(11))) / 8, metrics.Ndcg10, 12);
        Assert.Equal(5 / 8.0, metrics.HitRate20, 12);
        Assert.Equal((1 + 0.5 + (1 / Math.Log2(11)) + (1 / Math.Log2(12)) + (1 / Math.Log2(21))) / 8, metrics.Ndcg20, 12);
        Assert.Equal(new RankingMetrics(0, 0, 0, 0, 0), RankingMetrics.Of([]));
    }

    private static Dictionary<string, float[]> Weights(Random random, int experts)
    {
        Dictionary<string, float[]> weights = new() { ["text.layers.0.router.weight"] = Draw((experts + 1) * Width) };
        for (int k = 0; k < experts; k++)
        {
            weights[$"text.layers.0.experts.{k}.down"] = Draw(Adapter * Width);
            weights[$"text.layers.0.experts.{k}.up"] = Draw(Adapter * Width);
        }

        return weights;

        float[] Draw(int count) => [.. Enumerable.Range(0, count).Select(_ => (float)(random.NextDouble() - 0.5))];
    }
}
