using CudaMoE.Balancing;
using CudaMoE.Description;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Balancing;

/// <summary>What holds of every balancer, whatever its method.</summary>
public sealed class AllBalancersTests(ITestOutputHelper output)
{
    // pcgrad, grad_vac and rlw draw by position; meta_balance has a target task.
    private static readonly BalancerType[] DependOnOrder = [BalancerType.Pcgrad, BalancerType.GradVac, BalancerType.Rlw, BalancerType.MetaBalance];

    // Their steps have the size of losses or gradients, or what they learn follows the size of the losses.
    private static readonly BalancerType[] DependOnScale = [BalancerType.Uw, BalancerType.ImtlL, BalancerType.Imtl, BalancerType.Moco, BalancerType.Modo, BalancerType.Sdmgrad, BalancerType.Famo];

    public static TheoryData<BalancerType> All => AllBalancers.Data();

    public static TheoryData<BalancerType> Gradients => AllBalancers.Data(type => BalancerFacts.Of(type).UsesGradients);

    public static TheoryData<BalancerType> Symmetric => AllBalancers.Data(type => !DependOnOrder.Contains(type));

    public static TheoryData<BalancerType> ScaleFree => AllBalancers.Data(type => BalancerFacts.Of(type).Family != BalancerFamily.Fixed && !DependOnScale.Contains(type));

    [Theory]
    [MemberData(nameof(All))]
    public void Weights_RandomSteps_AreFiniteAndCounted(BalancerType type)
    {
        Random random = Seeded();
        IBalancer balancer = AllBalancers.Create(type, 4);
        BalancerFacts facts = BalancerFacts.Of(type);
        Assert.Equal(4, balancer.Tasks);
        for (int step = 0; step < 60; step++)
        {
            bool[] valid = [.. Enumerable.Range(0, 4).Select(_ => random.Next(5) > 0)];
            double[] weights = Scenario.Random(random, 4, rows: 6, columns: 7).Step(balancer, step, valid);
            for (int t = 0; t < 4; t++)
            {
                Assert.True(double.IsFinite(weights[t]) && (facts.MayBeNegative || weights[t] >= 0), $"step {step}: {weights[t]}");
                Assert.True(valid[t] || weights[t] == 0);
            }
        }

        // A step without any valid task is the only one that has no weights to give.
        Assert.True(balancer.Diagnostics.Fallbacks < 5);
        Assert.Equal(0, balancer.Diagnostics.LeftOut);
    }

    [Theory]
    [MemberData(nameof(Gradients))]
    public void Weights_DegenerateGradients_AreFiniteAndCounted(BalancerType type)
    {
        (string Name, double[][] Gradients)[] cases =
        [
            ("zero", [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),
            ("one zero", [[1, 2, 0], [0, 0, 0], [0, 1, 1]]),
            ("identical", [[1, 2, 3], [1, 2, 3], [1, 2, 3]]),
            ("opposite", [[1, 2, 3], [-1, -2, -3], [1, 0, 0]]),
            ("opposite alone", [[1, 2, 3], [-1, -2, -3], [2, 4, 6]]),
            ("in a plane", [[1, 0, 0], [0, 1, 0], [1, 1, 0]]),
            ("balanced", [[1, 0, 0], [-0.5, 0.8660254037844386, 0], [-0.5, -0.8660254037844386, 0]]),
            ("huge and small", [[1e140, 0, 1e139], [0, 1e-140, 1e-141], [1, 1, 0]]),
            ("huge", [[1e150, 0, 0], [-1e150, 1e150, 0], [0, 0, 1e150]]),
            ("small", [[1e-150, 0, 0], [-1e-150, 1e-150, 0], [0, 0, 1e-150]]),
            ("infinite", [[double.PositiveInfinity, 0, 0], [0, 1, 0], [1, 1, 0]]),
            ("not a number", [[double.NaN, 0, 0], [double.NaN, 1, 0], [1, 1, 0]]),
        ];
        foreach ((string name, double[][] gradients) in cases)
        {
            IBalancer balancer = AllBalancers.Create(type);
            for (int step = 0; step < 8; step++)
            {
                double[] weights = Scenario.OneRow(gradients, [0.5, 0.25, 0.75]).Step(balancer, step);
                Assert.True(weights.All(double.IsFinite), $"{name}, step {step}: {string.Join(", ", weights)}");
                Assert.True(weights.Any(weight => weight != 0), name);
                for (int t = 0; t < 3; t++)
                    Assert.True(gradients[t].All(double.IsFinite) || weights[t] == 0, $"{name}: task {t} has the weight {weights[t]}");
            }

            if (name is "zero")
                Assert.Equal((8, 24), (balancer.Diagnostics.Fallbacks, balancer.Diagnostics.LeftOut));
            if (name is "one zero" or "infinite")
                Assert.Equal(8, balancer.Diagnostics.LeftOut);
            if (name is "not a number")
                Assert.Equal(16, balancer.Diagnostics.LeftOut);
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Weights_LossesOfZero_AreFinite(BalancerType type)
    {
        IBalancer balancer = AllBalancers.Create(type);
        double[][] gradients = [[1, 2, 0], [0, 1, 1], [1, 0, -1]];
        for (int step = 0; step < 12; step++)
        {
            double[] losses = step % 3 == 0 ? [0, 0, 0] : [0, 0.5, 1e-30];
            double[] weights = Scenario.OneRow(gradients, losses).Step(balancer, step);
            Assert.All(weights, weight => Assert.True(double.IsFinite(weight)));
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void SaveAndLoad_AtAnyStep_ContinueBitForBit(BalancerType type)
    {
        Random random = Seeded();
        Scenario[] scenarios = [.. Enumerable.Range(0, 14).Select(_ => Scenario.Random(random, 3))];
        BalancerDescription description = AllBalancers.Describe(type) with { Every = BalancerFacts.Of(type).UsesGradients && type != BalancerType.GradDrop ? 2 : 1 };
        for (int broken = 0; broken < scenarios.Length; broken++)
        {
            IBalancer straight = BalancerFactory.Create(description, [1, 2, 0.5], 3, 3);
            IBalancer resumed = BalancerFactory.Create(description, [1, 2, 0.5], 3, 3);
            for (int step = 0; step < scenarios.Length; step++)
            {
                if (step == broken)
                {
                    IReadOnlyDictionary<string, IReadOnlyList<double>> state = resumed.Save();
                    resumed = BalancerFactory.Create(description, [1, 2, 0.5], 3, 3);
                    resumed.Load(state);
                }

                bool[] valid = [true, step % 4 != 1, true];
                Assert.Equal(scenarios[step].Step(straight, step, valid), scenarios[step].Step(resumed, step, valid));
                Assert.Equal(straight.ColumnWeights.ToArray(), resumed.ColumnWeights.ToArray());
            }

            Assert.Equal(straight.Save().OrderBy(entry => entry.Key).SelectMany(entry => entry.Value), resumed.Save().OrderBy(entry => entry.Key).SelectMany(entry => entry.Value));
        }
    }

    [Theory]
    [MemberData(nameof(Symmetric))]
    public void Weights_TasksInAnotherOrder_AreTheSameInThatOrder(BalancerType type)
    {
        Random random = Seeded();
        int[] order = [2, 0, 3, 1];
        IBalancer balancer = AllBalancers.Create(type, 4);
        IBalancer other = AllBalancers.Create(type, 4);
        for (int step = 0; step < 10; step++)
        {
            Scenario scenario = Scenario.Random(random, 4);
            double[] weights = scenario.Step(balancer, step);

            // The losses after a step are those of a position, so the reordered scenario brings its own.
            double[] reordered = new double[4];
            Scenario changed = scenario.Change(order, [1, 1, 1, 1]);
            bool gram = other.NeedsGram(step);
            other.Weights(new(step, changed.Losses, gram ? changed.Gram() : [], default, changed.Columns(other.NeedsColumns)), reordered);
            if (other.NeedsLossesAfterStep)
                other.ObserveAfterStep(new(step, [.. order.Select(t => scenario.Losses[t] * (0.7 + (0.1 * t)))]));
            Vectors.Close([.. order.Select(t => weights[t])], reordered, 1e-8);
        }
    }

    [Theory]
    [MemberData(nameof(ScaleFree))]
    public void Weights_AllLossesTimesANumber_AreTheSame(BalancerType type)
    {
        Random random = Seeded();
        IBalancer balancer = AllBalancers.Create(type);
        IBalancer other = AllBalancers.Create(type);

        // These divide by losses themselves: their weights shrink as the losses grow.
        bool inverse = type is BalancerType.DbMtl or BalancerType.Stch;
        for (int step = 0; step < 10; step++)
        {
            Scenario scenario = Scenario.Random(random, 3);
            double[] scaled = scenario.Change([0, 1, 2], [1000, 1000, 1000]).Step(other, step);
            Vectors.Close(scenario.Step(balancer, step), Vectors.Times(inverse ? 1000 : 1, scaled), 1e-7);
        }
    }

    [Theory]
    [InlineData(BalancerType.NashMtl)]
    [InlineData(BalancerType.DbMtl)]
    [InlineData(BalancerType.Gls)]
    [InlineData(BalancerType.Stch)]
    public void Combined_OneLossTimesANumber_KeepsItsDirection(BalancerType type)
    {
        Random random = Seeded();
        IBalancer balancer = AllBalancers.Create(type);
        IBalancer other = AllBalancers.Create(type);
        for (int step = 0; step < 10; step++)
        {
            Scenario scenario = Scenario.Random(random, 3);
            Scenario scaled = scenario.Change([0, 1, 2], [1, 40, 1]);
            double[] expected = scenario.Combine(scenario.Step(balancer, step));
            double[] actual = scaled.Combine(scaled.Step(other, step));
            Vectors.Close(Vectors.Times(1 / Vectors.Norm(expected), expected), Vectors.Times(1 / Vectors.Norm(actual), actual), 1e-6);
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Weights_TaskWeights_AreFactorsOfLossesAndGradients(BalancerType type)
    {
        if (type is BalancerType.Equal or BalancerType.Static)
            return;
        Random random = Seeded();
        double[] factors = [2, 0.5, 3];
        IBalancer with = BalancerFactory.Create(AllBalancers.Describe(type), factors, 7, 3);
        IBalancer without = AllBalancers.Create(type);
        for (int step = 0; step < 10; step++)
        {
            Scenario scenario = Scenario.Random(random, 3);
            double[] expected = scenario.Change([0, 1, 2], factors).Step(without, step);
            Vectors.Close([.. expected.Zip(factors, (weight, factor) => weight * factor)], scenario.Step(with, step), 1e-9);
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Weights_OneTask_HasAPositiveWeight(BalancerType type)
    {
        Random random = Seeded();
        IBalancer balancer = AllBalancers.Create(type, 1);
        for (int step = 0; step < 10; step++)
            Assert.True(Scenario.Random(random, 1).Step(balancer, step)[0] > 0);
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Weights_AFloor_IsKept(BalancerType type)
    {
        BalancerFacts facts = BalancerFacts.Of(type);
        if (facts.Family == BalancerFamily.Fixed || facts.MayBeNegative)
            return;
        Random random = Seeded();
        IBalancer plain = AllBalancers.Create(type);
        IBalancer floored = BalancerFactory.Create(AllBalancers.Describe(type) with { Floor = 0.2 }, [1, 1, 1], 7, 3);
        for (int step = 0; step < 10; step++)
        {
            Scenario scenario = Scenario.Random(random, 3);
            double[] weights = scenario.Step(plain, step);

            // multi_balance turns lambda into weights by its own factors.
            if (type == BalancerType.MultiBalance)
                continue;
            double[] expected = [.. weights.Select(weight => (0.4 * weight) + (0.2 * weights.Sum()))];
            Vectors.Close(expected, scenario.Step(floored, step), 1e-9);
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Weights_AStep_AllocatesNothing(BalancerType type)
    {
        IBalancer balancer = AllBalancers.Create(type);
        Scenario scenario = Scenario.Random(new Random(5), 3);
        double[] gram = scenario.Gram();
        double[] columns = scenario.Columns(balancer.NeedsColumns);
        double[] weights = new double[3];
        double[] losses = scenario.Losses;
        Run(0, 100);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Run(100, 200);
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());

        void Run(int from, int to)
        {
            for (int step = from; step < to; step++)
            {
                balancer.Weights(new(step, losses, gram, default, columns), weights);
                balancer.ObserveAfterStep(new(step, losses));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Gradients))]
    public void Diagnostics_AfterAStep_HaveNormsAndCosines(BalancerType type)
    {
        IBalancer balancer = AllBalancers.Create(type);
        Scenario.OneRow([[3, 4, 0], [0, -1, 0], [0, 0, 2]], [1, 1, 1]).Step(balancer);
        Vectors.Close([5, 1, 2], balancer.Diagnostics.Norms.ToArray(), 1e-12);
        Assert.Equal(-0.8, balancer.Diagnostics.Cosines[1], 12);
        Assert.Equal(1.0 / 3, balancer.Diagnostics.ConflictRate);
        Assert.All(balancer.Diagnostics.Lambda.ToArray(), lambda => Assert.True(double.IsFinite(lambda)));
    }

    private Random Seeded()
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        return new(seed);
    }
}
