using CudaMoE.Balancing;
using CudaMoE.Description;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Balancing;

public sealed class BalancerTests(ITestOutputHelper output)
{
    private static readonly double[][] Gradients = [[1, 0, 2, -1], [-2, 1, 0, 0.5], [0.5, -1, 1, 3]];
    private static readonly double[] Gram = GramOf(Gradients);
    private static readonly double[] Losses = [0.6, 0.3, 1.2];

    [Fact]
    public void Project_KnownPoints_AreRight()
    {
        Check([0.5, 0.9, -0.2], [0.3, 0.7, 0], 1);
        Check([2, 0, 0], [1, 0, 0], 1);
        Check([0.3, 0.3, 0.3], [1d / 3, 1d / 3, 1d / 3], 1);
        Check([5], [1], 1);
        Check([-7, -7], [0.5, 0.5], 1);
        Check([1, 2], [0, 0], 0);
        Check([0.1, 0.2], [0.2, 0.3], 0.5);
        SimplexProjection.Project([], []);

        static void Check(double[] point, double[] expected, double sum)
        {
            SimplexProjection.Project(point, new double[point.Length], sum);
            Close(expected, point, 1e-15);
        }
    }

    [Fact]
    public void Project_RandomPoints_AreTheNearestOnes()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        for (int trial = 0; trial < 500; trial++)
        {
            int n = random.Next(1, 12);
            double[] point = [.. Enumerable.Range(0, n).Select(_ => (random.NextDouble() * 4) - 2)];
            double[] projected = [.. point];
            SimplexProjection.Project(projected, new double[n]);
            Assert.Equal(1, projected.Sum(), 12);
            Assert.True(projected.Min() >= 0);

            // Nearest: (point - projected) . (other - projected) <= 0 for every corner, hence for every other point of the simplex.
            double inner = point.Zip(projected, (p, q) => (p - q) * q).Sum();
            for (int corner = 0; corner < n; corner++)
                Assert.True(point[corner] - projected[corner] <= inner + 1e-12);
        }
    }

    [Theory]
    [InlineData(GramScale.None, 0.05, new[] { 0.334924, 0.420070, 0.245006 }, new[] { -0.171200, 0.099451, 1.035427, 0.512037 })]
    [InlineData(GramScale.Cosine, 1, new[] { 0.379310, 0.380851, 0.239839 }, new[] { -0.057090, 0.072459, 1.135011, 0.428080 })]
    [InlineData(GramScale.Cosine, 0.1, new[] { 0.337931, 0.338085, 0.323984 }, new[] { 0.006291, -0.046754, 1.121501, 0.711808 })]
    public void MultiBalance_OneStep_GivesTheKnownValues(GramScale scale, double beta, double[] lambda, double[] combined)
    {
        MultiBalanceBalancer balancer = MultiBalance(new() { Gamma = 0.1, Beta = beta, Rho = 0.1, GramScale = scale, TimesTasks = false });
        LoadAverages(balancer, [1.2, 0.8, 1.0]);
        double[] weights = Run(balancer, Gram);
        Close([2.890398, 1.878856, 3.354102], balancer.Averages.ToArray(), 1e-6);
        Close([2.449490, 2.291288, 3.354102], balancer.Diagnostics.Norms.ToArray(), 1e-6);
        Close(lambda, balancer.Diagnostics.Lambda.ToArray(), 1e-6);
        Close(combined, Combine(weights, Gradients), 1e-6);
        Assert.Equal(-2.5 / Math.Sqrt(6 * 5.25), balancer.Diagnostics.Cosines[1], 12);
        Assert.Equal(1, balancer.Diagnostics.ConflictRate);
    }

    [Fact]
    public void MultiBalance_ManySteps_ConvergeToTheKnownLambda()
    {
        MultiBalanceBalancer balancer = MultiBalance(new() { Gamma = 0.1, Beta = 0.1, Rho = 0.1 });
        for (int step = 0; step < 2000; step++)
            Run(balancer, Gram, step);
        Close([0.382917, 0.383692, 0.233391], balancer.Diagnostics.Lambda.ToArray(), 1e-6);
    }

    [Fact]
    public void MultiBalance_TraceScale_IsTheRawStepWithBetaOverTrace()
    {
        MultiBalanceBalancer trace = MultiBalance(new() { Beta = 2, GramScale = GramScale.Trace });
        MultiBalanceBalancer raw = MultiBalance(new() { Beta = 2 / 22.5, GramScale = GramScale.None });
        Close(Run(raw, Gram), Run(trace, Gram), 1e-14);
    }

    [Fact]
    public void MultiBalance_FirstStep_StartsTheAverageAtTheFirstNorm()
    {
        MultiBalanceBalancer balancer = MultiBalance(new() { Gamma = 0.01 });
        double[] weights = Run(balancer, Gram);
        Close([Math.Sqrt(6), Math.Sqrt(5.25), Math.Sqrt(11.25)], balancer.Averages.ToArray(), 1e-15);
        Close([.. balancer.Diagnostics.Lambda.ToArray().Select(lambda => 3 * lambda)], weights, 1e-15);
        Run(balancer, [.. Gram.Select(value => 4 * value)], 1);
        Close([1.01 * Math.Sqrt(6), 1.01 * Math.Sqrt(5.25), 1.01 * Math.Sqrt(11.25)], balancer.Averages.ToArray(), 1e-14);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    [InlineData(-1)]
    public void MultiBalance_TaskWithoutAUsableGradient_IsLeftOutAndKeepsItsState(double diagonal)
    {
        MultiBalanceBalancer balancer = MultiBalance(new());
        Run(balancer, Gram);
        double average = balancer.Averages[1];
        double lambda = balancer.Diagnostics.Lambda[1];
        double[] broken = [.. Gram];
        broken[4] = diagonal;
        if (diagonal != 0)
            broken[1] = broken[3] = broken[5] = broken[7] = double.NaN;
        else
            broken[1] = broken[3] = broken[5] = broken[7] = 0;
        double[] weights = Run(balancer, broken, 1);
        Assert.Equal(0, weights[1]);
        Assert.True(weights[0] > 0 && weights[2] > 0);
        Assert.Equal(average, balancer.Averages[1]);
        Assert.Equal(lambda, balancer.Diagnostics.Lambda[1]);
        Assert.Equal(1, balancer.Diagnostics.Lambda.ToArray().Sum(), 12);
        Assert.Equal(1, balancer.Diagnostics.LeftOut);
        Assert.Equal(0, balancer.Diagnostics.Fallbacks);
        Assert.True(double.IsNaN(balancer.Diagnostics.Cosines[1]));
    }

    [Fact]
    public void MultiBalance_VanishingGradient_IsLeftOut()
    {
        MultiBalanceBalancer balancer = MultiBalance(new());
        Run(balancer, Gram);
        double[] tiny = [.. Gram];
        tiny[4] *= 1e-30;
        tiny[1] = tiny[3] = tiny[5] = tiny[7] = 0;
        Assert.Equal(0, Run(balancer, tiny, 1)[1]);
        Assert.Equal(1, balancer.Diagnostics.LeftOut);
    }

    [Theory]
    [InlineData(BalancerType.Mgda)]
    [InlineData(BalancerType.MultiBalance)]
    public void Weights_DegenerateGrams_AreFiniteAndCounted(BalancerType type)
    {
        IBalancer balancer = BalancerFactory.Create(new() { Type = type }, [1, 1, 1]);
        Assert.Equal([1, 1, 1], Run(balancer, new double[9]));
        Assert.Equal(1, balancer.Diagnostics.Fallbacks);
        Assert.Equal(3, balancer.Diagnostics.LeftOut);
        Assert.Equal([1, 1, 1], Run(balancer, [.. Enumerable.Repeat(double.NaN, 9)], 1));
        Assert.Equal(2, balancer.Diagnostics.Fallbacks);
        double[] corner = [.. Gram];
        corner[1] = double.NaN;
        Assert.Equal([1, 1, 1], Run(balancer, corner, 2));
        Assert.Equal(3, balancer.Diagnostics.Fallbacks);
        Assert.Equal([1, 0, 1], Run(balancer, new double[9], 3, [true, false, true]));

        long fallbacks = balancer.Diagnostics.Fallbacks;
        foreach (double[] gram in new double[][] { [.. Enumerable.Repeat(2d, 9)], [1, -1, 0, -1, 1, 0, 0, 0, 1], [1e-300, 0, 0, 0, 1e300, 0, 0, 0, 1], [1, 9, 9, 9, 1, 9, 9, 9, 1], [1, -9, -9, -9, 1, -9, -9, -9, 1] })
        {
            IBalancer fresh = BalancerFactory.Create(new() { Type = type }, [1, 1, 1]);
            double[] weights = Run(fresh, gram);
            Assert.All(weights, weight => Assert.True(double.IsFinite(weight) && weight >= 0));
            Assert.True(weights.Sum() > 0);
        }

        Assert.Equal(fallbacks, balancer.Diagnostics.Fallbacks);
    }

    [Fact]
    public void Mgda_ThreeGradients_CombineToTheLeastNorm()
    {
        IBalancer balancer = BalancerFactory.Create(new() { Type = BalancerType.Mgda, TimesTasks = false }, [1, 1, 1]);
        double[] weights = Run(balancer, Gram);
        Close([0.405963, 0.445249, 0.148788], weights, 1e-6);
        Close([-0.410142, 0.296461, 0.960713, 0.263026], Combine(weights, Gradients), 1e-6);
        IBalancer normalized = BalancerFactory.Create(new() { Type = BalancerType.Mgda, Normalize = GradientNormalization.Norm }, [1, 1, 1]);
        Close([3 * 0.378409, 3 * 0.379114, 3 * 0.242476], Run(normalized, Gram), 4e-6);
    }

    [Fact]
    public void Mgda_TaskLeftOut_SolvesForTheOthers()
    {
        IBalancer balancer = BalancerFactory.Create(new() { Type = BalancerType.Mgda }, [1, 1, 1]);
        double[] weights = Run(balancer, Gram, 0, [true, false, true]);
        double first = (11.25 + 0.5) / (6 + 11.25 + 1);
        Close([2 * first, 0, 2 * (1 - first)], weights, 1e-12);
        Assert.Equal(0, balancer.Diagnostics.LeftOut);
    }

    [Theory]
    [InlineData(BalancerType.Mgda)]
    [InlineData(BalancerType.MultiBalance)]
    public void Weights_TaskWeights_AreFactorsOfTheGradients(BalancerType type)
    {
        double[] factors = [2, 0.5, 3];
        double[] scaled = new double[9];
        for (int i = 0; i < 9; i++)
            scaled[i] = Gram[i] * factors[i / 3] * factors[i % 3];
        double[] expected = Run(BalancerFactory.Create(new() { Type = type }, [1, 1, 1]), scaled);
        double[] weights = Run(BalancerFactory.Create(new() { Type = type }, factors), Gram);
        Close([.. expected.Zip(factors, (weight, factor) => weight * factor)], weights, 1e-12);

        IBalancer without = BalancerFactory.Create(new() { Type = type }, [1, 0, 1]);
        Assert.Equal(0, Run(without, Gram)[1]);
        Assert.Equal(0, without.Diagnostics.LeftOut);
    }

    [Theory]
    [InlineData(BalancerType.Mgda)]
    [InlineData(BalancerType.MultiBalance)]
    public void Weights_Floor_MixesWithEqualWeights(BalancerType type)
    {
        // The first two point apart, the third is long: the least norm needs the first two only.
        double[] gram = [1, -0.9, 0, -0.9, 1, 0, 0, 0, 1e6];
        BalancerDescription description = new() { Type = type, TimesTasks = false, GramScale = GramScale.None, Beta = 1, Gamma = 1, Floor = 0.2 };
        double[] plain = Run(BalancerFactory.Create(description with { Floor = 0 }, [1, 1, 1]), gram);
        double[] weights = Run(BalancerFactory.Create(description, [1, 1, 1]), gram);
        Assert.True(plain[2] < 0.01);
        Close([.. plain.Select(weight => (0.4 * weight) + 0.2)], weights, 1e-12);
        Assert.Equal(1, weights.Sum(), 12);
    }

    [Theory]
    [InlineData(BalancerType.Mgda)]
    [InlineData(BalancerType.MultiBalance)]
    public void Weights_EveryThirdStep_AreHeldBetween(BalancerType type)
    {
        IBalancer balancer = BalancerFactory.Create(new() { Type = type, Every = 3, Beta = 1 }, [1, 1, 1]);
        Assert.True(balancer.NeedsGram(1));
        double[] first = Run(balancer, Gram, 1);
        Assert.False(balancer.NeedsGram(2));
        Assert.Equal(first, Run(balancer, [], 2));
        Assert.Equal([first[0], 0, first[2]], Run(balancer, [], 2, [true, false, true]));
        Assert.True(balancer.NeedsGram(3));
        Assert.NotEqual(first, Run(balancer, [1, 0, 0, 0, 2, 0, 0, 0, 9], 3));

        // A task without labels at the evaluation has a weight in the steps between.
        double[] partial = Run(balancer, Gram, 6, [true, false, true]);
        Assert.Equal(0, partial[1]);
        Assert.Equal((partial[0] + partial[2]) / 2, Run(balancer, [], 7)[1], 12);
    }

    [Theory]
    [InlineData(BalancerType.Equal)]
    [InlineData(BalancerType.Static)]
    [InlineData(BalancerType.Mgda)]
    [InlineData(BalancerType.MultiBalance)]
    public void SaveAndLoad_AtAnyStep_ContinueBitForBit(BalancerType type)
    {
        Random random = new(11);
        BalancerDescription description = new() { Type = type, Every = 2 };
        double[][] grams = [.. Enumerable.Range(0, 20).Select(_ => GramOf([.. Enumerable.Range(0, 3).Select(_ => new[] { random.NextDouble() - 0.4, random.NextDouble() - 0.4, random.NextDouble() })]))];
        for (int broken = 0; broken < 20; broken++)
        {
            IBalancer straight = BalancerFactory.Create(description, [1, 2, 3]);
            IBalancer resumed = BalancerFactory.Create(description, [1, 2, 3]);
            for (int step = 0; step < 20; step++)
            {
                if (step == broken)
                {
                    IReadOnlyDictionary<string, IReadOnlyList<double>> state = resumed.Save();
                    resumed = BalancerFactory.Create(description, [1, 2, 3]);
                    resumed.Load(state);
                }

                Assert.Equal(Run(straight, grams[step], step), Run(resumed, grams[step], step));
            }

            Assert.Equal(straight.Diagnostics.LeftOut, resumed.Diagnostics.LeftOut);
        }
    }

    [Fact]
    public void Load_StateOfAnother_IsRefused()
    {
        IBalancer multi = BalancerFactory.Create(new() { Type = BalancerType.MultiBalance }, [1, 1]);
        IBalancer mgda = BalancerFactory.Create(new() { Type = BalancerType.Mgda }, [1, 1]);
        Assert.Contains("has no \"u\"", Assert.Throws<CudaMoEException>(() => multi.Load(mgda.Save())).Message, StringComparison.Ordinal);
        Assert.Contains("has no state", Assert.Throws<CudaMoEException>(() => new EqualBalancer(2).Load(mgda.Save())).Message, StringComparison.Ordinal);
        Assert.Contains("2 values of \"u\"", Assert.Throws<CudaMoEException>(() => MultiBalance(new()).Load(multi.Save())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void FixedBalancers_GiveTheirWeightsToValidTasks()
    {
        double[] weights = new double[3];
        IBalancer equal = BalancerFactory.Create(new(), [5, 0, 1]);
        Assert.False(equal.NeedsGram(0));
        equal.Weights(new(0, Losses, default, [true, false, true]), weights);
        Assert.Equal([1, 0, 1], weights);
        BalancerFactory.Create(new() { Type = BalancerType.Static }, [5, 0, 1]).Weights(new(0, Losses), weights);
        Assert.Equal([5, 0, 1], weights);
        Assert.Null(equal.Diagnostics.ConflictRate);
    }

    [Fact]
    public void Weights_WrongLengths_AreNamed()
    {
        IBalancer balancer = BalancerFactory.Create(new() { Type = BalancerType.Mgda }, [1, 1, 1]);
        double[] weights = new double[3];
        Assert.Contains("losses has 2", Assert.Throws<ArgumentException>(() => balancer.Weights(new(0, [1, 2], Gram), weights)).Message, StringComparison.Ordinal);
        Assert.Contains("gram has 8", Assert.Throws<ArgumentException>(() => balancer.Weights(new(0, Losses, Gram.AsSpan(1)), weights)).Message, StringComparison.Ordinal);
        Assert.Contains("valid has 1", Assert.Throws<ArgumentException>(() => balancer.Weights(new(0, Losses, Gram, [true]), weights)).Message, StringComparison.Ordinal);
        Assert.Contains("weights has 2", Assert.Throws<ArgumentException>(() => balancer.Weights(new(0, Losses, Gram), weights.AsSpan(1))).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => BalancerFactory.Create(new(), [0, 0]));
        Assert.Throws<ArgumentException>(() => BalancerFactory.Create(new(), [1, double.NaN]));
        Assert.Throws<ArgumentException>(() => BalancerFactory.Create(new() { Type = (BalancerType)99 }, [1]));
    }

    [Theory]
    [InlineData(BalancerType.Equal)]
    [InlineData(BalancerType.Static)]
    [InlineData(BalancerType.Mgda)]
    [InlineData(BalancerType.MultiBalance)]
    public void Weights_AStep_AllocatesNothing(BalancerType type)
    {
        IBalancer balancer = BalancerFactory.Create(new() { Type = type }, [1, 1, 1]);
        double[] weights = new double[3];
        for (int step = 0; step < 100; step++)
            balancer.Weights(new(step, Losses, Gram), weights);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int step = 0; step < 100; step++)
            balancer.Weights(new(step, Losses, Gram), weights);
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
    }

    private static MultiBalanceBalancer MultiBalance(BalancerDescription description) => new(description, [1, 1, 1]);

    private static void LoadAverages(MultiBalanceBalancer balancer, double[] factors) => balancer.Load(new Dictionary<string, IReadOnlyList<double>>
    {
        ["counts"] = [0, 0],
        ["u"] = [factors[0] * Math.Sqrt(6), factors[1] * Math.Sqrt(5.25), factors[2] * Math.Sqrt(11.25)],
        ["lambda"] = [1d / 3, 1d / 3, 1d / 3],
    });

    private static double[] Run(IBalancer balancer, double[] gram, long step = 0, bool[]? valid = null)
    {
        double[] weights = [double.NaN, double.NaN, double.NaN];
        balancer.Weights(new(step, Losses, gram, valid), weights);
        return weights;
    }

    private static double[] GramOf(double[][] gradients) =>
        [.. gradients.SelectMany(first => gradients.Select(second => first.Zip(second, (a, b) => a * b).Sum()))];

    private static double[] Combine(double[] weights, double[][] gradients) =>
        [.. Enumerable.Range(0, gradients[0].Length).Select(k => weights.Select((weight, task) => weight * gradients[task][k]).Sum())];

    private static void Close(double[] expected, double[] actual, double tolerance)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
            Assert.True(Math.Abs(expected[i] - actual[i]) <= tolerance, $"entry {i} is {actual[i]}; expected {expected[i]}");
    }
}
