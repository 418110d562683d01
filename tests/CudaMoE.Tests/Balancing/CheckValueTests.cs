using CudaMoE.Balancing;
using CudaMoE.Description;

namespace CudaMoE.Tests.Balancing;

/// <summary>Values that were computed apart from this library, for three gradients of one row.</summary>
public sealed class CheckValueTests
{
    private static readonly double[][] Gradients = [[1, 0, 2, -1], [-2, 1, 0, 0.5], [0.5, -1, 1, 3]];
    private static readonly Scenario Example = Scenario.OneRow(Gradients, [0.6, 0.3, 1.2]);

    [Fact]
    public void ImtlG_HasTheKnownWeights()
    {
        double[] weights = Mean(BalancerType.ImtlG);
        Vectors.Close([0.393857, 0.421835, 0.184308], weights, 1e-6);
        double[] combined = Example.Combine(weights);
        foreach (double[] gradient in Gradients)
            Assert.Equal(0.496593, Vectors.Dot(combined, gradient) / Vectors.Norm(gradient), 1e-6);
    }

    [Theory]
    [InlineData(BalancerType.NashMtl, null)]
    [InlineData(BalancerType.FairGrad, 1.0)]
    public void NashMtl_OnTheRawMatrix_HasTheKnownWeights(BalancerType type, double? alpha)
    {
        double[] weights = Sum(new() { Type = type, Alpha = alpha, GramScale = GramScale.None });
        Vectors.Close([0.573632, 0.614266, 0.325706], weights, 1e-6);
        Vectors.Close([-0.492046, 0.288559, 1.472971, 0.710620], Example.Combine(weights), 1e-6);
    }

    [Fact]
    public void FairGrad_Alpha2OnTheRawMatrix_HasTheKnownWeights() =>
        Vectors.Close([0.475024, 0.513793, 0.229497], Sum(new() { Type = BalancerType.FairGrad, Alpha = 2, GramScale = GramScale.None }), 1e-6);

    [Fact]
    public void Cagrad_HasTheKnownDirection()
    {
        double[] weights = Mean(BalancerType.Cagrad);
        double[] combined = Example.Combine(weights);
        Vectors.Close([-0.408895, 0.231597, 1.175265, 0.594833], combined, 1e-6);
        Vectors.Close([-0.511119, 0.289496, 1.469082, 0.743541], Vectors.Times(1.25, combined), 1e-6);

        // What is left of the weights when the mean's share is taken off is w, up to its length.
        double[] w = [.. weights.Select(weight => (1.25 * weight) - (1.0 / 3))];
        Vectors.Close([0.447565, 0.552435, 0], Vectors.Times(1 / w.Sum(), w), 1e-6);
    }

    [Fact]
    public void Pcgrad_PartnersInAscendingOrder_HasTheKnownDirection()
    {
        double[] gram = Example.Gram();
        double[] weights = new double[3];
        for (int own = 0; own < 3; own++)
        {
            double[] coefficients = new double[3];
            PcgradBalancer.Project(gram, 3, own, [0, 1, 2], coefficients);
            weights = Vectors.Add(weights, coefficients);
        }

        Vectors.Close([-1.157937, 0.482540, 4.128571, 2.691270], Example.Combine(weights), 1e-6);
    }

    [Fact]
    public void AlignedMtl_HasTheKnownWeights()
    {
        Vectors.Close([0.993909, 1.052909, 0.579748], Sum(new() { Type = BalancerType.AlignedMtl }), 1e-6);
        SymmetricEigen eigen = new(3);
        eigen.Decompose(Example.Gram(), 3);
        Vectors.Close([3.036489, 8.152103, 11.311408], [.. eigen.Values.ToArray().Order()], 1e-6);
    }

    [Fact]
    public void Upgrad_HasTheKnownWeights()
    {
        double[] weights = Mean(BalancerType.Upgrad);
        Vectors.Close([0.525133, 0.550261, 0.376361], weights, 1e-6);
        double[] combined = Example.Combine(weights);
        Vectors.Close([1.586964, 1.387856, 3.696370], [.. Gradients.Select(g => Vectors.Dot(g, combined))], 1e-6);
    }

    [Fact]
    public void DbMtl_OnEqualLosses_HasTheKnownFactors()
    {
        Scenario equal = Scenario.OneRow(Gradients, [1, 1, 1]);
        Vectors.Close([1.369306, 1.463850, 1], equal.Step(BalancerFactory.Create(new() { Type = BalancerType.DbMtl }, [1, 1, 1])), 1e-6);
    }

    [Theory]
    [InlineData(SimplexMap.Softmax, new[] { 0.334152, 0.334847, 0.331001 })]
    [InlineData(SimplexMap.Projection, new[] { 0.335798, 0.337878, 0.326325 })]
    public void Moco_FirstStep_HasTheKnownWeights(SimplexMap simplex, double[] expected) =>
        Vectors.Close(expected, Example.Step(BalancerFactory.Create(new() { Type = BalancerType.Moco, Simplex = simplex, TimesTasks = false }, [1, 1, 1])), 1e-6);

    [Fact]
    public void Dwa_KnownRatios_HasTheKnownWeights()
    {
        IBalancer balancer = BalancerFactory.Create(new() { Type = BalancerType.Dwa, Period = 1 }, [1, 1, 1]);
        double[] weights = new double[3];
        balancer.Weights(new(0, [0.8, 0.5, 1]), weights);
        Vectors.Close([1, 1, 1], weights, 1e-12);
        balancer.Weights(new(1, [0.6, 0.5, 1.2]), weights);
        Vectors.Close([1, 1, 1], weights, 1e-12);
        balancer.Weights(new(2, [9, 9, 9]), weights);
        Vectors.Close([0.886140, 1.004128, 1.109733], weights, 1e-6);
    }

    [Fact]
    public void Uw_AtItsStart_HasTheKnownWeightAndTotal()
    {
        double[] weights = Sum(new() { Type = BalancerType.Uw });
        Vectors.Close([0.824361, 0.824361, 0.824361], weights, 1e-6);
        Assert.Equal(0.981157, weights.Zip(Example.Losses, (w, l) => w * l).Sum() + (3 * -0.5 / 2), 1e-6);
    }

    [Fact]
    public void Famo_AtItsStart_HasTheKnownWeightsAndLoss()
    {
        double[] weights = Mean(BalancerType.Famo);
        Vectors.Close([0.285714, 0.571429, 0.142857], weights, 1e-6);
        double c = Example.Losses.Sum(loss => 1 / (3 * loss));
        Assert.Equal(-0.262710, Example.Losses.Sum(loss => Math.Log(loss) / 3) / c, 1e-6);
    }

    [Fact]
    public void GradNorm_AfterItsFirstPeriod_HasTheKnownTargets()
    {
        GradNormBalancer balancer = (GradNormBalancer)BalancerFactory.Create(new() { Type = BalancerType.GradNorm, Period = 1 }, [1, 1, 1]);
        Scenario.OneRow(Gradients, [0.8, 0.5, 1]).Step(balancer);
        double[] weights = Example.Step(balancer, 1);
        Vectors.Close([1, 1, 1], weights, 1e-12);
        double[] targets = balancer.Targets.ToArray();
        Vectors.Close([2.236416, 1.600249, 4.526188], targets, 1e-6);
        Assert.Equal(2.076198, Gradients.Select((g, t) => Math.Abs(Vectors.Norm(g) - targets[t])).Sum(), 1e-6);
    }

    private static double[] Sum(BalancerDescription description) => Example.Step(BalancerFactory.Create(description, [1, 1, 1]));

    private static double[] Mean(BalancerType type) => Sum(new() { Type = type, TimesTasks = false });
}
