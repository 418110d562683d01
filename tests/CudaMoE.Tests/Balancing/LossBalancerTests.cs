using CudaMoE.Balancing;
using CudaMoE.Description;

namespace CudaMoE.Tests.Balancing;

/// <summary>Balancers of losses: the weights are the derivatives of what the method minimises, and what is learnt follows its rule.</summary>
public sealed class LossBalancerTests
{
    private static readonly double[] Losses = [0.6, 0.3, 1.2];

    [Fact]
    public void Gls_Weights_AreTheDerivativeOfTheGeometricMean() =>
        CheckDerivative(new() { Type = BalancerType.Gls, TimesTasks = false }, losses => Math.Pow(losses[0] * losses[1] * losses[2], 1.0 / 3));

    [Fact]
    public void Uw_Weights_AreTheDerivativeOfItsLossAndScalesFallAndRiseWithTheLosses()
    {
        CheckDerivative(new() { Type = BalancerType.Uw }, losses => losses.Sum(loss => (loss / (2 * Math.Exp(-0.5))) - 0.25));
        double[] weights = Train(new() { Type = BalancerType.Uw, Beta = 0.05 }, 3000);

        // At the minimum over s, e^s is the loss.
        Vectors.Close([.. Losses.Select(loss => 1 / (2 * loss))], weights, 0.01);
    }

    [Fact]
    public void ImtlL_AtItsMinimum_MakesAllLossesOne()
    {
        CheckDerivative(new() { Type = BalancerType.ImtlL }, losses => losses.Sum());
        Vectors.Close([.. Losses.Select(loss => 1 / loss)], Train(new() { Type = BalancerType.ImtlL, Beta = 0.05 }, 3000), 0.01);
    }

    [Fact]
    public void Stch_Weights_AreTheDerivativeOfItsLossInBothPhases()
    {
        BalancerDescription description = new() { Type = BalancerType.Stch, Temperature = 0.7, Period = 2, Warmup = 2 };
        CheckDerivative(description, losses => losses.Sum(Math.Log));
        IBalancer balancer = BalancerFactory.Create(description, [1, 1, 1]);
        double[] weights = new double[3];
        double[][] history = [[5, 5, 5], [5, 5, 5], [0.5, 0.2, 0.9], [0.7, 0.4, 1.1]];
        for (int step = 0; step < 4; step++)
            balancer.Weights(new(step, history[step]), weights);
        balancer.Weights(new(4, Losses), weights);
        double[] nadir = [0.6, 0.3, 1.0];
        Vectors.Close(Derivative(losses => 0.7 * 3 * Math.Log(losses.Select((loss, t) => Math.Exp(Math.Log(loss / nadir[t]) / 0.7)).Sum())), weights, 1e-7);

        // Later periods leave it as it is.
        for (int step = 5; step < 20; step++)
            balancer.Weights(new(step, [9, 9, 9]), weights);
        balancer.Weights(new(20, Losses), weights);
        Vectors.Close(Derivative(losses => 0.7 * 3 * Math.Log(losses.Select((loss, t) => Math.Exp(Math.Log(loss / nadir[t]) / 0.7)).Sum())), weights, 1e-7);
    }

    [Fact]
    public void Famo_Weights_FollowItsRule()
    {
        IBalancer balancer = BalancerFactory.Create(new() { Type = BalancerType.Famo, TimesTasks = false }, [1, 1, 1]);
        Assert.True(balancer.NeedsLossesAfterStep);
        double[] w = new double[3];
        double[] m = new double[3];
        double[] v = new double[3];
        Random random = new(2);
        double[] weights = new double[3];
        for (int step = 0; step < 50; step++)
        {
            double[] before = [.. Losses.Select(loss => loss + random.NextDouble())];
            double[] after = [.. before.Select(loss => loss * (0.8 + (0.3 * random.NextDouble())))];
            double[] z = [.. w.Select(value => Math.Exp(value) / w.Sum(Math.Exp))];
            double[] expected = [.. z.Zip(before, (share, loss) => share / loss)];
            balancer.Weights(new(step, before), weights);
            Vectors.Close(Vectors.Times(1 / expected.Sum(), expected), weights, 1e-6);
            balancer.ObserveAfterStep(new(step, after));
            for (int i = 0; i < 3; i++)
            {
                // The Jacobian of the softmax times the progress, entry by entry.
                double gradient = Enumerable.Range(0, 3).Sum(j => ((i == j ? z[i] : 0) - (z[i] * z[j])) * (Math.Log(before[j]) - Math.Log(after[j])));
                gradient += 1e-3 * w[i];
                m[i] = (0.9 * m[i]) + (0.1 * gradient);
                v[i] = (0.999 * v[i]) + (0.001 * gradient * gradient);
                w[i] -= 0.025 * (m[i] / (1 - Math.Pow(0.9, step + 1))) / (Math.Sqrt(v[i] / (1 - Math.Pow(0.999, step + 1))) + 1e-8);
            }
        }

        Assert.True(w.Max() - w.Min() > 0.1);
    }

    [Fact]
    public void Dwa_TaskWithoutLabelsForAPeriod_KeepsItsEarlierMean()
    {
        IBalancer balancer = BalancerFactory.Create(new() { Type = BalancerType.Dwa, Period = 1, Temperature = 1, TimesTasks = false }, [1, 1]);
        double[] weights = new double[2];
        balancer.Weights(new(0, [1, 1]), weights);
        balancer.Weights(new(1, [0.5, 0], default, [true, false]), weights);
        Assert.Equal([1, 0], weights);
        balancer.Weights(new(2, [1, 1]), weights);
        double first = Math.Exp(0.5) / (Math.Exp(0.5) + Math.Exp(1));
        Vectors.Close([first, 1 - first], weights, 1e-12);
    }

    [Fact]
    public void Rlw_Weights_AreDrawnAnewFromSeedAndStep()
    {
        double[][] drawn = [.. Enumerable.Range(0, 4000).Select(step =>
        {
            double[] weights = new double[3];
            BalancerFactory.Create(new() { Type = BalancerType.Rlw }, [1, 1, 1], seed: 4).Weights(new(step, Losses), weights);
            Assert.Equal(3, weights.Sum(), 12);
            return weights;
        })];
        Assert.Equal(4000, drawn.Select(weights => weights[0]).Distinct().Count());
        for (int t = 0; t < 3; t++)
            Assert.Equal(1, drawn.Average(weights => weights[t]), 0.05);

        // The logarithm of the ratio of two weights is the difference of two standard normal numbers.
        Assert.Equal(2, drawn.Average(weights => Math.Pow(Math.Log(weights[0] / weights[1]), 2)), 0.2);
        double[] other = new double[3];
        BalancerFactory.Create(new() { Type = BalancerType.Rlw }, [1, 1, 1], seed: 5).Weights(new(0, Losses), other);
        Assert.NotEqual(drawn[0], other);
    }

    private static double[] Train(BalancerDescription description, int steps)
    {
        IBalancer balancer = BalancerFactory.Create(description, [1, 1, 1]);
        double[] weights = new double[3];
        for (int step = 0; step < steps; step++)
            balancer.Weights(new(step, Losses), weights);
        return weights;
    }

    private static void CheckDerivative(BalancerDescription description, Func<double[], double> loss) => Vectors.Close(Derivative(loss), Train(description, 1), 1e-7);

    private static double[] Derivative(Func<double[], double> loss) => [.. Enumerable.Range(0, 3).Select(t =>
    {
        double[] up = [.. Losses];
        double[] down = [.. Losses];
        up[t] += 1e-6;
        down[t] -= 1e-6;
        return (loss(up) - loss(down)) / 2e-6;
    })];
}
