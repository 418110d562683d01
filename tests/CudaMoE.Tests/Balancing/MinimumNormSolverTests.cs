using CudaMoE.Balancing;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Balancing;

public sealed class MinimumNormSolverTests(ITestOutputHelper output)
{
    private static readonly double[] Gram = [6, -2.5, -0.5, -2.5, 5.25, -0.5, -0.5, -0.5, 11.25];

    [Fact]
    public void Solve_ThreeGradients_GivesTheKnownWeights()
    {
        double[] weights = new double[3];
        double norm = new MinimumNormSolver(3).Solve(Gram, weights);
        Close([0.405963, 0.445249, 0.148788], weights, 1e-6);
        Assert.Equal(1.248259, norm, 6);
        double[] cosine = new double[9];
        for (int i = 0; i < 9; i++)
            cosine[i] = Gram[i] / Math.Sqrt(Gram[i / 3 * 4] * Gram[i % 3 * 4]);
        norm = new MinimumNormSolver(8).Solve(cosine, weights);
        Close([0.378409, 0.379114, 0.242476], weights, 1e-6);
        Assert.Equal(0.194782, norm, 6);
    }

    [Theory]
    [InlineData(4, -1, 2)]
    [InlineData(4, 3, 2)]
    [InlineData(2, 2, 2)]
    [InlineData(1, 0, 1e-20)]
    [InlineData(1e-300, 0, 1e-300)]
    [InlineData(1e300, -1e299, 2e300)]
    public void Solve_TwoGradients_IsTheClosedForm(double first, double product, double second)
    {
        double[] weights = new double[2];
        new MinimumNormSolver(2).Solve([first, product, product, second], weights);
        double expected = first == second && product == first ? weights[0] : Math.Clamp((second - product) / (first + second - (2 * product)), 0, 1);
        Assert.Equal(expected, weights[0], 12);
        Assert.Equal(1, weights[0] + weights[1], 12);
    }

    [Fact]
    public void Solve_ZeroVectorsOrOne_AreHandled()
    {
        double[] weights = new double[3];
        Assert.Equal(0, new MinimumNormSolver(3).Solve(new double[9], weights));
        Close([1d / 3, 1d / 3, 1d / 3], weights, 1e-15);
        Assert.Equal(0, new MinimumNormSolver(3).Solve([1, 0, 0, 0, 0, 0, 0, 0, 1], weights));
        Assert.Equal([0, 1, 0], weights);
        Assert.Equal(7, new MinimumNormSolver(3).Solve([7], weights.AsSpan(0, 1)));
        Assert.Equal(1, weights[0]);
        Assert.Throws<ArgumentException>(() => new MinimumNormSolver(2).Solve(new double[9], new double[3]));
        Assert.Throws<ArgumentException>(() => new MinimumNormSolver(3).Solve(new double[8], new double[3]));
    }

    [Fact]
    public void Solve_RandomGrams_MeetTheOptimalityConditionsAndTheBruteForceSolution()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        MinimumNormSolver solver = new(16);
        for (int trial = 0; trial < 4000; trial++)
        {
            // Every subset is tried by the reference, so large problems are few.
            int n = trial % 400 == 399 ? 16 : random.Next(1, 8);
            bool scales = random.Next(3) == 0;
            double[] gram = RandomGram(random, n, scales);
            double[] weights = new double[n];
            double norm = solver.Solve(gram, weights);

            Assert.Equal(1, weights.Sum(), 12);
            Assert.All(weights, weight => Assert.True(weight >= 0));
            double length = 0;
            for (int i = 0; i < n; i++)
                length += weights[i] * Math.Sqrt(gram[(i * n) + i]);
            for (int i = 0; i < n; i++)
            {
                double product = 0;
                for (int j = 0; j < n; j++)
                    product += gram[(i * n) + j] * weights[j];
                // Where the hull holds the origin, the point is 0 up to the rounding e of its squared length, and its product with a vector g only up to
                // |g| sqrt(e), about 1e-8 of the lengths. It shows where lengths differ by up to 10^12.
                double share = scales && norm <= 1e-14 * length * length ? 1e-11 : 1e-14;
                double rounding = (1e-12 * norm) + (share * length * (length + Math.Sqrt(gram[(i * n) + i])));
                Assert.True(product >= norm - rounding, $"trial {trial}: product {product} of vector {i} is below the norm {norm}");
            }

            // No subset may do better. With lengths that differ by up to 10^12 the reference loses subsets to rounding and may itself be worse;
            // otherwise the two are equal.
            double reference = Math.Max(0, BruteForce(gram, n));
            double tolerance = (1e-9 * reference) + (1e-13 * length * length);
            Assert.True(norm <= reference + tolerance, $"trial {trial}, {n} vectors: {norm} against {reference}");
            Assert.True(scales || norm >= reference - tolerance, $"trial {trial}, {n} vectors: {norm} against {reference}");
        }
    }

    private static double[] RandomGram(Random random, int n, bool scales)
    {
        int dimension = random.Next(1, n + 4);
        double[][] vectors = new double[n][];
        for (int i = 0; i < n; i++)
        {
            double scale = scales ? Math.Pow(10, random.Next(-6, 7)) : 1;
            vectors[i] = [.. Enumerable.Range(0, dimension).Select(_ => scale * (random.NextDouble() - 0.3))];
            if (i > 0 && random.Next(6) == 0)
                vectors[i] = vectors[random.Next(i)];
        }

        double[] gram = new double[n * n];
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                for (int k = 0; k < dimension; k++)
                    gram[(i * n) + j] += vectors[i][k] * vectors[j][k];
            }
        }

        return gram;
    }

    /// <summary>The least norm over every subset's affine minimum that lies inside its convex hull.</summary>
    private static double BruteForce(double[] gram, int n)
    {
        double best = double.PositiveInfinity;
        for (int subset = 1; subset < 1 << n; subset++)
        {
            int[] members = [.. Enumerable.Range(0, n).Where(i => (subset >> i & 1) == 1)];
            int size = members.Length + 1;
            double[,] system = new double[size, size + 1];
            double scale = members.Max(i => gram[(i * n) + i]);
            if (scale == 0)
                return 0;
            for (int i = 0; i < members.Length; i++)
            {
                for (int j = 0; j < members.Length; j++)
                    system[i, j] = gram[(members[i] * n) + members[j]] / scale;
                system[i, size - 1] = system[size - 1, i] = 1;
            }

            system[size - 1, size] = 1;
            if (!Eliminate(system, size))
                continue;
            double[] weights = [.. Enumerable.Range(0, members.Length).Select(i => system[i, size])];
            if (weights.Min() < 0)
                continue;
            double norm = 0;
            for (int i = 0; i < members.Length; i++)
            {
                for (int j = 0; j < members.Length; j++)
                    norm += weights[i] * weights[j] * gram[(members[i] * n) + members[j]];
            }

            best = Math.Min(best, norm);
        }

        return best;
    }

    private static bool Eliminate(double[,] system, int size)
    {
        for (int column = 0; column < size; column++)
        {
            int pivot = column;
            for (int row = column; row < size; row++)
            {
                if (Math.Abs(system[row, column]) > Math.Abs(system[pivot, column]))
                    pivot = row;
            }

            if (Math.Abs(system[pivot, column]) < 1e-13)
                return false;
            for (int k = 0; k <= size; k++)
                (system[column, k], system[pivot, k]) = (system[pivot, k], system[column, k]);
            for (int row = 0; row < size; row++)
            {
                double factor = row == column ? 0 : system[row, column] / system[column, column];
                for (int k = column; factor != 0 && k <= size; k++)
                    system[row, k] -= factor * system[column, k];
            }
        }

        for (int row = 0; row < size; row++)
            system[row, size] /= system[row, row];
        return true;
    }

    private static void Close(double[] expected, double[] actual, double tolerance)
    {
        for (int i = 0; i < expected.Length; i++)
            Assert.True(Math.Abs(expected[i] - actual[i]) <= tolerance, $"entry {i} is {actual[i]}; expected {expected[i]}");
    }
}
