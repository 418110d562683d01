using CudaMoE.Balancing;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Balancing;

/// <summary>The solvers meet their own conditions on random problems, dependent and nearly opposite gradients among them.</summary>
public sealed class SolverTests(ITestOutputHelper output)
{
    [Fact]
    public void SymmetricEigen_RandomMatrices_AreRebuiltFromOrthonormalVectors()
    {
        foreach ((Random random, int n) in Problems(300))
        {
            double[] matrix = Cosines(random, n, out _);
            double scale = Math.Pow(10, random.Next(-8, 9));
            matrix = Vectors.Times(scale, matrix);
            SymmetricEigen eigen = new(12);
            eigen.Decompose(matrix, n);
            for (int i = 0; i < n; i++)
            {
                for (int j = 0; j < n; j++)
                {
                    double entry = 0;
                    double product = 0;
                    for (int k = 0; k < n; k++)
                    {
                        entry += eigen.Vector(i, k) * eigen.Values[k] * eigen.Vector(j, k);
                        product += eigen.Vector(k, i) * eigen.Vector(k, j);
                    }

                    Assert.Equal(matrix[(i * n) + j], entry, 1e-13 * scale * n);
                    Assert.Equal(i == j ? 1 : 0, product, 1e-13);
                }
            }
        }
    }

    [Fact]
    public void Cholesky_RandomMatrices_SolvesAndRefusesWhatIsNotPositive()
    {
        foreach ((Random random, int n) in Problems(300))
        {
            double[] matrix = Cosines(random, n, out _);
            for (int i = 0; i < n; i++)
                matrix[(i * n) + i] += 0.5;
            double[] solution = [.. Enumerable.Range(0, n).Select(_ => random.NextDouble() - 0.5)];
            double[] right = [.. Enumerable.Range(0, n).Select(i => Vectors.Dot(matrix[(i * n)..((i + 1) * n)], solution))];
            double[] factor = [.. matrix];
            Assert.True(Cholesky.Factor(factor, n));
            Cholesky.Solve(factor, n, right);
            Vectors.Close(solution, right, 1e-12);
            matrix[0] = -1;
            Assert.False(Cholesky.Factor(matrix, n));
        }
    }

    [Fact]
    public void FairnessSolver_RandomCosines_MeetsItsCondition()
    {
        foreach ((Random random, int n) in Problems(1000))
        {
            double[] cosines = Cosines(random, n, out double least);
            double alpha = new[] { 0.5, 1, 2, 5 }[random.Next(4)];
            double[] right = [.. Enumerable.Range(0, n).Select(_ => Math.Exp(random.NextDouble() - 0.5))];
            double[] b = new double[n];
            bool solved = new FairnessSolver(12).Solve(cosines, right, alpha, b);
            if (!solved)
            {
                // Its answer where gradients are all but opposite and the utility hardly flattens; the balancer then gives equal weights and counts it.
                Assert.True(alpha > 2 && least < 1e-5, $"{n} tasks, alpha {alpha}, cosines {string.Join(", ", cosines)}, right {string.Join(", ", right)}: {string.Join(", ", b)}");
                continue;
            }

            Assert.All(b, value => Assert.True(value > 0));
            for (int i = 0; i < n; i++)
            {
                // The ridge of 1e-8 is part of the condition; where no exact solution exists it is what makes one.
                double product = Vectors.Dot(cosines[(i * n)..((i + 1) * n)], b) + (1e-8 * b[i]);
                double target = right[i] * Math.Pow(b[i], -1 / alpha);
                double rounding = 1e-14 * Enumerable.Range(0, n).Sum(j => Math.Abs(cosines[(i * n) + j]) * b[j]);
                Assert.True(Math.Abs(product - target) <= (1e-7 * target) + rounding, $"{n} tasks, alpha {alpha}, least distance {least}: {product} against {target}");
            }
        }
    }

    [Theory]
    [InlineData(0.5, new[] { -0.9999999913289112, -0.9999999841826575, 0.9999999989340862 }, new[] { 0.907640335116812, 1.2962004860498746, 1.1035832716440428 })]
    [InlineData(1, new[] { -1, 0.9999999514450707, -0.9999999514450707 }, new[] { 1.3742668181648607, 1.4211764146903092, 1.582216549015646 })]
    [InlineData(2, new[] { -0.9999999992733949, 0.9999999829689046, -0.9999999838897992 }, new[] { 0.916044870375993, 1.3606394178875225, 0.9783583014035035 })]
    public void FairnessSolver_NearlyOppositeGradients_StopsAtRounding(double alpha, double[] pairs, double[] right)
    {
        // Solutions thousands away, where the condition is a difference of products that cancel: steps taken on its rounding lead away again.
        double[] cosines = [1, pairs[0], pairs[1], pairs[0], 1, pairs[2], pairs[1], pairs[2], 1];
        double[] b = new double[3];
        Assert.True(new FairnessSolver(3).Solve(cosines, right, alpha, b));
        Assert.All(b, value => Assert.True(value > 0));
    }

    [Fact]
    public void NonNegativeSolver_RandomCosines_MeetsTheOptimalityConditions()
    {
        foreach ((Random random, int n) in Problems(2000))
        {
            double[] cosines = Cosines(random, n, out _);
            int own = random.Next(n);
            double[] u = new double[n];
            Assert.True(new NonNegativeSolver(12).Solve(cosines, n, own, u));
            double[] point = [.. u];
            point[own] += 1;
            for (int i = 0; i < n; i++)
            {
                double slope = Vectors.Dot(cosines[(i * n)..((i + 1) * n)], point);
                Assert.True(u[i] >= 0);
                Assert.True(slope >= -1e-9 * (1 + u.Sum()), $"the result opposes gradient {i} by {slope}");
                // The ridge of 1e-13 is part of the condition: it shows where nearly opposite gradients are added 10^5 times.
                Assert.True(u[i] * Math.Abs(slope + (1e-13 * u[i])) <= 1e-8 * (1 + u.Sum()), $"gradient {i} is added {u[i]} times although its slope is {slope}");
            }
        }
    }

    private IEnumerable<(Random Random, int Tasks)> Problems(int count)
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        for (int i = 0; i < count; i++)
            yield return (random, random.Next(1, 9));
    }

    /// <summary>Cosines of random gradients in few or many dimensions; some are copies of others, or nearly opposite to them.</summary>
    private static double[] Cosines(Random random, int n, out double least)
    {
        int dimension = random.Next(2, n + 5);
        List<double[]> vectors = [];
        least = double.PositiveInfinity;
        for (int i = 0; i < n; i++)
        {
            double[] vector = [.. Enumerable.Range(0, dimension).Select(_ => random.NextDouble() - 0.4)];
            if (i > 0 && random.Next(6) == 0)
                vector = Vectors.Times(random.Next(2) == 0 ? 1 : -1, [.. vectors[random.Next(i)].Select(v => v + (1e-3 * (random.NextDouble() - 0.5) * random.Next(2)))]);
            vectors.Add(Vectors.Times(1 / Vectors.Norm(vector), vector));
        }

        double[] cosines = new double[n * n];
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                cosines[(i * n) + j] = i == j ? 1 : Math.Clamp(Vectors.Dot(vectors[i], vectors[j]), -1, 1);
                least = i == j ? least : Math.Min(least, 1 - Math.Abs(cosines[(i * n) + j]));
            }
        }

        return cosines;
    }
}
