using CudaMoE.Graphs;

namespace CudaMoE.Tests.Graphs;

public sealed class MacroClusteringTests
{
    private const int Width = SignProjection.Width;
    private readonly int _seed = Random.Shared.Next();

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(40)]
    public void The_objective_never_rises(int clusters)
    {
        (float[] points, float[] weights, _) = Points(500, 12, 0.4);
        MacroClustering clustering = Run(points, weights, clusters, 2);
        Assert.True(clustering.Objectives.Count >= 2, $"seed {_seed}");
        for (int pass = 1; pass < clustering.Objectives.Count; pass++)
            Assert.True(clustering.Objectives[pass] <= clustering.Objectives[pass - 1] * (1 + 1e-5), $"seed {_seed}: {string.Join(", ", clustering.Objectives)}");
        Assert.Equal(Objective(clustering, points, weights), clustering.Objectives[^1], 1e-3);
    }

    [Fact]
    public void Separate_groups_are_found_and_points_of_weight_0_are_left_out()
    {
        (float[] points, float[] weights, int[] groups) = Points(300, 5, 0.01);
        weights[17] = 0;
        MacroClustering clustering = Run(points, weights, 5, 1);
        Assert.Equal(0, clustering.Assignment[17]);
        for (int i = 0; i < groups.Length; i++)
        {
            for (int j = 0; j < groups.Length && i != 17; j++)
                Assert.True(j == 17 || groups[i] != groups[j] || clustering.Assignment[i] == clustering.Assignment[j], $"seed {_seed}: points {i} and {j}");
        }
    }

    [Fact]
    public void Fewer_distinct_points_than_clusters_make_fewer_clusters()
    {
        (float[] points, float[] weights, _) = Points(60, 3, 0);
        MacroClustering clustering = Run(points, weights, 10, 1);
        Assert.Equal(3 * Width, clustering.Centres.Length);
        Assert.Equal(0, clustering.Objectives[^1], 1e-4);
        Assert.Empty(Run([], [], 4, 1).Centres);
    }

    [Fact]
    public void Mini_batches_find_separate_groups_and_do_not_depend_on_threads()
    {
        (float[] points, float[] weights, int[] groups) = Points(MacroClustering.BatchPoints + 1234, 4, 0.02);
        MacroClustering one = Run(points, weights, 4, 1, iterations: 4);
        MacroClustering three = Run(points, weights, 4, 3, iterations: 4);
        Assert.Equal(one.Centres, three.Centres);
        Assert.Equal(one.Assignment, three.Assignment);
        Dictionary<int, int> clusters = [];
        for (int i = 0; i < groups.Length; i++)
        {
            clusters.TryAdd(groups[i], one.Assignment[i]);
            Assert.True(clusters[groups[i]] == one.Assignment[i], $"seed {_seed}: point {i}");
        }
    }

    private static double Objective(MacroClustering clustering, float[] points, float[] weights)
    {
        double sum = 0;
        for (int i = 0; i < weights.Length; i++)
        {
            int k = clustering.Assignment[i] - 1;
            sum += weights[i] * Enumerable.Range(0, Width).Sum(j => Math.Pow(points[(i * Width) + j] - clustering.Centres[(k * Width) + j], 2));
        }

        return sum;
    }

    private MacroClustering Run(float[] points, float[] weights, int clusters, int threads, int iterations = 30)
    {
        MacroClustering clustering = new(points, weights, (ulong)_seed, threads, default);
        clustering.Run(clusters, iterations, _ => { });
        return clustering;
    }

    /// <summary>Points of length 1 around directions at right angles.</summary>
    private (float[] Points, float[] Weights, int[] Groups) Points(int count, int groups, double noise)
    {
        Random random = new(_seed);
        float[] points = new float[count * Width];
        float[] weights = new float[count];
        int[] group = new int[count];
        for (int i = 0; i < count; i++)
        {
            group[i] = i % groups;
            weights[i] = 0.25f + (0.75f * random.NextSingle());
            double[] point = new double[Width];
            for (int j = 0; j < Width; j++)
                point[j] = (j == group[i] ? 1 : 0) + (noise * (random.NextDouble() - 0.5));
            double length = Math.Sqrt(point.Sum(x => x * x));
            for (int j = 0; j < Width; j++)
                points[(i * Width) + j] = (float)(point[j] / length);
        }

        return (points, weights, group);
    }
}
