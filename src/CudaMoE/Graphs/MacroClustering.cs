using CudaMoE.Data;

namespace CudaMoE.Graphs;

/// <summary>
/// Weighted k-means on projected rows: k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's passes; of more than <see cref="BatchPoints"/> points
/// mini-batches (Sculley 2010) in a seeded random order. Similarities are computed in parallel, all sums in the order of the points, so the result does
/// not depend on threads.
/// </summary>
internal sealed class MacroClustering
{
    /// <summary>Points of a mini-batch; so many or fewer are clustered as a whole.</summary>
    public const int BatchPoints = 1 << 17;

    private const int Width = SignProjection.Width;
    private const int BlockPoints = 1 << 12;
    private readonly float[] _points;
    private readonly float[] _weights;
    private readonly ulong _seed;
    private readonly ParallelOptions _parallel;
    private ulong _random;

    /// <param name="points">[n, 64], of length 1.</param>
    /// <param name="weights">[n]; 0 = the point takes no part.</param>
    /// <param name="seed">Seed of the choices.</param>
    /// <param name="threads">Most threads.</param>
    /// <param name="cancellation">Stops it.</param>
    public MacroClustering(float[] points, float[] weights, ulong seed, int threads, CancellationToken cancellation)
    {
        _points = points;
        _weights = weights;
        _seed = seed;
        _random = seed;
        _parallel = new() { MaxDegreeOfParallelism = threads, CancellationToken = cancellation };
    }

    /// <summary>[clusters, 64]; there are fewer clusters than asked for where there are fewer distinct points.</summary>
    public float[] Centres { get; private set; } = [];

    /// <summary>[n] cluster of each point from 1; 0 = it takes no part.</summary>
    public int[] Assignment { get; private set; } = [];

    /// <summary>Weighted sum of squared distances to the nearest centre: at the start of each pass over all points, and at the end.</summary>
    public List<double> Objectives { get; } = [];

    /// <summary>Clusters the points.</summary>
    public void Run(int clusters, int iterations, Action<double> report)
    {
        int[] active = [.. Enumerable.Range(0, _weights.Length).Where(i => _weights[i] > 0)];
        Assignment = new int[_weights.Length];
        if (active.Length == 0)
            return;
        if (active.Length <= BatchPoints)
            RunWhole(active, clusters, iterations, report);
        else
            RunBatches(active, clusters, iterations, report);
        Objectives.Add(Assign(active, Assignment));
        report(1);
    }

    private void RunWhole(int[] active, int clusters, int iterations, Action<double> report)
    {
        Choose(active, clusters);
        int[] before = new int[_weights.Length];
        for (int pass = 0; pass < iterations; pass++)
        {
            Objectives.Add(Assign(active, Assignment));
            if (pass > 0 && Assignment.AsSpan().SequenceEqual(before))
                return;
            Assignment.CopyTo(before, 0);
            (double[] sums, double[] masses) = Sums(active);
            for (int k = 0; k < masses.Length; k++)
            {
                for (int j = 0; masses[k] > 0 && j < Width; j++)
                    Centres[(k * Width) + j] = (float)(sums[(k * Width) + j] / masses[k]);
            }

            report((double)(pass + 1) / iterations);
        }
    }

    private void RunBatches(int[] active, int clusters, int iterations, Action<double> report)
    {
        Permutation order = new(active.Length, _seed, 1);
        int[] batch = new int[BatchPoints];
        double[] totals = [];
        for (int pass = 0; pass < iterations; pass++)
        {
            for (int i = 0; i < batch.Length; i++)
                batch[i] = active[order[(((long)pass * BatchPoints) + i) % active.Length]];
            if (pass == 0)
            {
                Choose(batch, clusters);
                totals = new double[Centres.Length / Width];
            }

            Assign(batch, Assignment);
            (double[] sums, double[] masses) = Sums(batch);
            for (int k = 0; k < masses.Length; k++)
            {
                totals[k] += masses[k];
                for (int j = 0; masses[k] > 0 && j < Width; j++)
                {
                    ref float centre = ref Centres[(k * Width) + j];
                    centre += (float)((sums[(k * Width) + j] - (masses[k] * centre)) / totals[k]);
                }
            }

            report((double)(pass + 1) / iterations);
        }
    }

    /// <summary>k-means++: each next centre is a point drawn with probability proportional to weight times squared distance to the nearest so far.</summary>
    private void Choose(int[] points, int clusters)
    {
        double[] distances = new double[points.Length];
        Array.Fill(distances, 1);
        List<float> centres = [];
        for (int k = 0; k < Math.Min(clusters, points.Length); k++)
        {
            double total = 0;
            for (int i = 0; i < points.Length; i++)
                total += _weights[points[i]] * distances[i];
            if (!(total > 0))
                break;
            double target = Uniform() * total;
            int chosen = -1;
            for (int i = 0; i < points.Length && (chosen < 0 || target >= 0); i++)
            {
                double mass = _weights[points[i]] * distances[i];
                if (mass <= 0)
                    continue;
                chosen = i;
                target -= mass;
            }

            float[] centre = Point(points[chosen]).ToArray();
            centres.AddRange(centre);
            bool first = k == 0;
            ForBlocks(points.Length, (from, to) =>
            {
                for (int i = from; i < to; i++)
                {
                    double distance = 0;
                    ReadOnlySpan<float> point = Point(points[i]);
                    for (int j = 0; j < Width; j++)
                        distance += ((double)point[j] - centre[j]) * ((double)point[j] - centre[j]);
                    distances[i] = first ? distance : Math.Min(distances[i], distance);
                }
            });
        }

        Centres = [.. centres];
    }

    /// <summary>Assigns points to their nearest centres and returns the objective over them.</summary>
    private double Assign(int[] points, int[] assignment)
    {
        float[] halves = SignProjection.HalfSquares(Centres);
        float[] similarities = new float[points.Length];
        ForBlocks(points.Length, (from, to) =>
        {
            for (int i = from; i < to; i++)
                assignment[points[i]] = SignProjection.Nearest(Point(points[i]), Centres, halves, out similarities[i]);
        });
        double objective = 0;
        for (int i = 0; i < points.Length; i++)
            objective += _weights[points[i]] * Math.Max(0, 1 - (2.0 * similarities[i]));
        return objective;
    }

    private (double[] Sums, double[] Masses) Sums(int[] points)
    {
        double[] sums = new double[Centres.Length];
        double[] masses = new double[Centres.Length / Width];
        foreach (int i in points)
        {
            int k = Assignment[i] - 1;
            double weight = _weights[i];
            masses[k] += weight;
            ReadOnlySpan<float> point = Point(i);
            Span<double> sum = sums.AsSpan(k * Width, Width);
            for (int j = 0; j < Width; j++)
                sum[j] += weight * point[j];
        }

        return (sums, masses);
    }

    private ReadOnlySpan<float> Point(int i) => _points.AsSpan(i * Width, Width);

    private void ForBlocks(int count, Action<int, int> run) =>
        Parallel.For(0, (count + BlockPoints - 1) / BlockPoints, _parallel, block => run(block * BlockPoints, Math.Min(count, (block + 1) * BlockPoints)));

    private double Uniform()
    {
        _random = SignProjection.Signs(_random, 0x5EED);
        return (_random >> 11) * (1.0 / (1L << 53));
    }
}
