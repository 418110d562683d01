using CudaMoE.Balancing;
using CudaMoE.Description;
using Xunit.Abstractions;
using static CudaMoE.Tests.Balancing.Vectors;

namespace CudaMoE.Tests.Balancing;

/// <summary>Each method that looks at gradients against the same method written plainly on the gradient vectors, step after step.</summary>
public sealed class ReferenceTests(ITestOutputHelper output)
{
    private const ulong Seed = 7;

    // With these long gradients the default of 5 would step from corner to corner, and rounding would decide to which.
    private const double SdmgradStep = 0.01;

    /// <summary>A method: the combined gradient of a step, flattened.</summary>
    private delegate double[] Method(Scenario scenario, long step);

    public static TheoryData<BalancerType> Types => AllBalancers.Data(type => BalancerFacts.Of(type).UsesGradients && type is not (BalancerType.MultiBalance or BalancerType.GradDrop or BalancerType.Cagrad));

    [Theory]
    [MemberData(nameof(Types))]
    public void Combined_RandomGradients_AreThoseOfTheReference(BalancerType type)
    {
        int seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        for (int trial = 0; trial < 8; trial++)
        {
            int tasks = random.Next(2, 6);
            BalancerDescription description = new()
            {
                Type = type,
                Minimum = type == BalancerType.PeLtr ? [.. Enumerable.Repeat(0.05, tasks)] : null,
                Beta = type == BalancerType.Sdmgrad ? SdmgradStep : null,
            };
            IBalancer balancer = BalancerFactory.Create(description, [.. Enumerable.Repeat(1.0, tasks)], Seed, 3);
            Method reference = Reference(type, tasks);
            for (int step = 0; step < 6; step++)
            {
                Scenario scenario = Scenario.Random(random, tasks);
                double[] expected = reference(scenario, step);
                double[] actual = scenario.Combine(scenario.Step(balancer, step));
                Close(expected, actual, Tolerance(type));
            }
        }
    }

    [Fact]
    public void Cagrad_RandomGradients_HasNoDualityGap()
    {
        // The largest of min_t g_t . d over |d - g0| <= c |g0| is the least of g_w . g0 + c |g0| |g_w|: where they meet, both are solved.
        Random random = new(11);
        for (int trial = 0; trial < 80; trial++)
        {
            int tasks = random.Next(2, 7);
            double c = new[] { 0.1, 0.5, 0.9 }[trial % 3];
            Scenario scenario = Scenario.Random(random, tasks);
            double[] weights = scenario.Step(BalancerFactory.Create(new() { Type = BalancerType.Cagrad, Alpha = c, TimesTasks = false }, [.. Enumerable.Repeat(1.0, tasks)]));
            double[] d = Times(1 + (c * c), scenario.Combine(weights));
            double[] mean = scenario.Combine([.. Enumerable.Repeat(1.0 / tasks, tasks)]);
            double[] w = [.. weights.Select(weight => ((1 + (c * c)) * weight) - (1.0 / tasks))];
            w = Times(1 / w.Sum(), w);
            Assert.True(w.Min() >= -1e-9);
            double[] combined = scenario.Combine(w);
            Assert.True(Norm(Add(d, Times(-1, mean))) <= c * Norm(mean) * (1 + 1e-9));
            double primal = Enumerable.Range(0, tasks).Min(t => Dot(scenario.Flat(t), d));
            double dual = Dot(combined, mean) + (c * Norm(mean) * Norm(combined));
            Assert.True(Math.Abs(primal - dual) <= 1e-6 * (1 + Math.Abs(dual)), $"{primal} against {dual}");
        }
    }

    [Fact]
    public void GradDrop_RandomGradients_KeepsOneSignInEachColumn()
    {
        Random random = new(3);
        IBalancer balancer = BalancerFactory.Create(new() { Type = BalancerType.GradDrop, Alpha = 0.25 }, [1, 1, 1], Seed);
        for (int step = 0; step < 50; step++)
        {
            Scenario scenario = Scenario.Random(random, 3);
            Assert.Equal([1, 1, 1], scenario.Step(balancer, step));
            StepRandom numbers = new(Seed, step);
            double[][] sums = [.. Enumerable.Range(0, 3).Select(t => scenario.ColumnSum(t))];
            for (int k = 0; k < 5; k++)
            {
                double p = 0.5 * (1 + (sums.Sum(s => s[k]) / sums.Sum(s => Math.Abs(s[k]))));
                double u = numbers.Uniform();
                for (int t = 0; t < 3; t++)
                {
                    bool kept = (p > u && sums[t][k] > 0) || (p < u && sums[t][k] < 0);
                    Assert.Equal(kept ? 1f : 0.25f, balancer.ColumnWeights[(t * 5) + k]);
                }
            }
        }
    }

    private static double Tolerance(BalancerType type) => type switch
    {
        BalancerType.NashMtl or BalancerType.FairGrad => 1e-6,
        BalancerType.Mgda or BalancerType.AlignedMtl => 1e-6,
        _ => 1e-9,
    };

    private static Method Reference(BalancerType type, int tasks) => type switch
    {
        BalancerType.Mgda => (s, _) => Times(tasks, s.Combine(LeastNorm(s, tasks))),
        BalancerType.Pcgrad => Pcgrad,
        BalancerType.GradVac => GradVac(tasks),
        BalancerType.ImtlG => (s, _) => Times(tasks, s.Combine(EqualProjections([.. Enumerable.Range(0, tasks).Select(s.Flat)]))),
        BalancerType.Imtl => Imtl(tasks),
        BalancerType.NashMtl or BalancerType.FairGrad => Nash,
        BalancerType.AlignedMtl => Aligned,
        BalancerType.Upgrad => Upgrad,
        BalancerType.PeLtr => ParetoEfficient,
        BalancerType.GradNorm => GradNorm(tasks),
        BalancerType.MetaBalance => MetaBalance(tasks),
        BalancerType.Moco => Moco(tasks),
        BalancerType.Modo => Modo(tasks),
        BalancerType.Sdmgrad => Sdmgrad(tasks),
        BalancerType.DbMtl => DbMtl(tasks),
        BalancerType.ExcessMtl => ExcessMtl(tasks),
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "no reference"),
    };

    /// <summary>Frank-Wolfe with exact steps between pairs, long enough.</summary>
    private static double[] LeastNorm(Scenario scenario, int tasks)
    {
        double[] w = [.. Enumerable.Repeat(1.0 / tasks, tasks)];
        for (int round = 0; round < 3000; round++)
        {
            double[] combined = scenario.Combine(w);
            double[] slopes = [.. Enumerable.Range(0, tasks).Select(t => Dot(scenario.Flat(t), combined))];
            int to = Enumerable.Range(0, tasks).MinBy(t => slopes[t]);
            int from = Enumerable.Range(0, tasks).Where(t => w[t] > 0).MaxBy(t => slopes[t]);
            if (slopes[from] - slopes[to] < 1e-14)
                break;
            double[] difference = Add(scenario.Flat(to), Times(-1, scenario.Flat(from)));
            double step = Math.Clamp((slopes[from] - slopes[to]) / Dot(difference, difference), 0, w[from]);
            w[to] += step;
            w[from] -= step;
        }

        return w;
    }

    private static int[] Order(ref StepRandom random, int tasks)
    {
        int[] order = [.. Enumerable.Range(0, tasks)];
        random.Shuffle(order);
        return order;
    }

    private static double[] Pcgrad(Scenario scenario, long step)
    {
        StepRandom random = new(Seed, step);
        double[] sum = new double[scenario.Flat(0).Length];
        for (int i = 0; i < scenario.Tasks; i++)
        {
            double[] p = scenario.Flat(i);
            foreach (int j in Order(ref random, scenario.Tasks).Where(j => j != i))
            {
                double[] g = scenario.Flat(j);
                if (Dot(p, g) < 0)
                    p = Add(p, Times(-Dot(p, g) / Dot(g, g), g));
            }

            sum = Add(sum, p);
        }

        return sum;
    }

    private static Method GradVac(int tasks)
    {
        double[,] r = new double[tasks, tasks];
        return (scenario, step) =>
        {
            StepRandom random = new(Seed, step);
            double[] sum = new double[scenario.Flat(0).Length];
            for (int i = 0; i < tasks; i++)
            {
                double[] p = scenario.Flat(i);
                foreach (int j in Order(ref random, tasks).Where(j => j != i))
                {
                    double[] g = scenario.Flat(j);
                    double c = Dot(p, g) / Norm(p) / Norm(g);
                    if (c < r[i, j])
                    {
                        double side = Math.Sqrt(1 - (r[i, j] * r[i, j]));
                        p = Add(p, Times(Norm(p) * ((r[i, j] * Math.Sqrt(1 - (c * c))) - (c * side)) / (Norm(g) * side), g));
                        Assert.Equal(r[i, j], Dot(p, g) / Norm(p) / Norm(g), 1e-9);
                    }

                    r[i, j] = (0.5 * r[i, j]) + (0.5 * c);
                }

                sum = Add(sum, p);
            }

            return sum;
        };
    }

    /// <summary>LibMTL's form: the other tasks' weights from differences of gradients and of unit gradients, the first one's from the sum of 1.</summary>
    private static double[] EqualProjections(double[][] g)
    {
        int others = g.Length - 1;
        double[][] units = [.. g.Select(v => Times(1 / Norm(v), v))];
        double[][] d = [.. Enumerable.Range(1, others).Select(t => Add(g[0], Times(-1, g[t])))];
        double[][] u = [.. Enumerable.Range(1, others).Select(t => Add(units[0], Times(-1, units[t])))];
        double[][] system = [.. u.Select(row => d.Select(column => Dot(row, column)).ToArray())];
        double[] weights = Solve(system, [.. u.Select(row => Dot(g[0], row))]);
        return [1 - weights.Sum(), .. weights];
    }

    private static Method Imtl(int tasks)
    {
        Adam s = new(tasks, 0, 1e-3);
        return (scenario, _) =>
        {
            double[] scales = [.. s.Values.Select(Math.Exp)];
            double[] weights = EqualProjections([.. Enumerable.Range(0, tasks).Select(t => Times(scales[t], scenario.Flat(t)))]);
            for (int t = 0; t < tasks; t++)
                s.Step(t, (scales[t] * scenario.Losses[t]) - 1);
            return Times(tasks, scenario.Combine([.. weights.Zip(scales, (w, scale) => w * scale)]));
        };
    }

    /// <summary>Coordinate descent on 1/2 |sum a g|^2 / size - sum log a: each a_i solves a quadratic equation.</summary>
    private static double[] Nash(Scenario scenario, long step)
    {
        int tasks = scenario.Tasks;
        double[][] g = [.. Enumerable.Range(0, tasks).Select(scenario.Flat)];
        double size = g.Sum(v => Dot(v, v)) / tasks;

        double[] a = [.. Enumerable.Repeat(1.0, tasks)];
        for (int round = 0; round < 3000; round++)
        {
            for (int i = 0; i < tasks; i++)
            {
                double own = Dot(g[i], g[i]) / size;
                double rest = (Dot(g[i], scenario.Combine(a)) / size) - (own * a[i]);
                a[i] = (-rest + Math.Sqrt((rest * rest) + (4 * own))) / (2 * own);
            }
        }

        double cut = Math.Min(1, 10 * tasks / a.Select((value, i) => value * Norm(g[i]) / Math.Sqrt(size)).Sum());
        return Times(cut, scenario.Combine(a));
    }

    /// <summary>G^(-1/2) by the coupled Newton iteration of Denman and Beavers; its largest eigenvalue, by powers, is one over the root of the least of G.</summary>
    private static double[] Aligned(Scenario scenario, long step)
    {
        int tasks = scenario.Tasks;
        double[][] y = Rows(scenario.Gram(), tasks);
        double[][] z = Rows([.. Enumerable.Range(0, tasks * tasks).Select(i => i % (tasks + 1) == 0 ? 1.0 : 0)], tasks);
        for (int round = 0; round < 60; round++)
        {
            double[][] yInverse = Inverse(y);
            double[][] zInverse = Inverse(z);
            y = [.. y.Select((row, i) => Times(0.5, Add(row, zInverse[i])))];
            z = [.. z.Select((row, i) => Times(0.5, Add(row, yInverse[i])))];
        }

        double[] vector = [.. Enumerable.Range(0, tasks).Select(i => 1.0 + i)];
        double largest = 0;
        for (int round = 0; round < 3000; round++)
        {
            vector = [.. z.Select(row => Dot(row, vector))];
            largest = Norm(vector);
            vector = Times(1 / largest, vector);
        }

        return scenario.Combine([.. z.Select(row => row.Sum() / largest)]);
    }

    /// <summary>Every subset of gradients that may be added is tried.</summary>
    private static double[] Upgrad(Scenario scenario, long step)
    {
        int tasks = scenario.Tasks;
        double[][] g = [.. Enumerable.Range(0, tasks).Select(scenario.Flat)];
        double[] sum = new double[g[0].Length];
        for (int i = 0; i < tasks; i++)
        {
            double[] best = g[i];
            bool found = g.All(v => Dot(v, g[i]) >= -1e-12);
            for (int subset = 1; subset < 1 << tasks && !found; subset++)
            {
                int[] members = [.. Enumerable.Range(0, tasks).Where(t => (subset >> t & 1) == 1)];
                double[] u = Solve([.. members.Select(a => members.Select(b => Dot(g[a], g[b])).ToArray())], [.. members.Select(a => -Dot(g[a], g[i]))]);
                double[] candidate = members.Zip(u).Aggregate(g[i], (v, pair) => Add(v, Times(pair.Second, g[pair.First])));
                found = u.All(value => value >= 0) && g.All(v => Dot(v, candidate) >= -1e-9);
                best = found ? candidate : best;
            }

            Assert.True(found);
            sum = Add(sum, best);
        }

        return sum;
    }

    private static double[] ParetoEfficient(Scenario scenario, long step)
    {
        int tasks = scenario.Tasks;
        double[][] g = [.. Enumerable.Range(0, tasks).Select(scenario.Flat)];
        double[] minimum = [.. Enumerable.Repeat(0.05, tasks)];
        double[][] system = [.. g.Select(a => g.Select(b => Dot(a, b)).Append(1).ToArray()), [.. Enumerable.Repeat(1.0, tasks), 0]];
        double[] right = [.. g.Select(a => -Dot(a, scenario.Combine(minimum))), 1 - minimum.Sum()];
        double[] v = ToSimplex(Solve(system, right)[..tasks], 1 - minimum.Sum());
        return Times(tasks, scenario.Combine(Add(v, minimum)));
    }

    private static Method GradNorm(int tasks)
    {
        Adam s = new(tasks, 0, 0.025);
        List<double[]> first = [];
        return (scenario, step) =>
        {
            if (step < 3)
            {
                first.Add(scenario.Losses);
                return scenario.Combine([.. Enumerable.Repeat(1.0, tasks)]);
            }

            double[] norms = [.. Enumerable.Range(0, tasks).Select(t => Norm(scenario.Flat(t)))];
            double[] w = Weights(s.Values);
            double[] rates = [.. Enumerable.Range(0, tasks).Select(t => scenario.Losses[t] / first.Average(losses => losses[t]))];
            double mean = w.Zip(norms, (a, b) => a * b).Average();
            double[] targets = [.. rates.Select(rate => mean * Math.Pow(rate / rates.Average(), 1.5))];
            double[] before = [.. s.Values];
            double[] gradient = [.. Enumerable.Range(0, tasks).Select(t => (Objective(t, 1e-6) - Objective(t, -1e-6)) / 2e-6)];
            for (int t = 0; t < tasks; t++)
                s.Step(t, gradient[t]);
            return scenario.Combine(w);

            double Objective(int moved, double by)
            {
                double[] at = [.. before];
                at[moved] += by;
                return Weights(at).Select((weight, t) => Math.Abs((weight * norms[t]) - targets[t])).Sum();
            }
        };

        double[] Weights(double[] values) => [.. values.Select(value => tasks * Math.Exp(value) / values.Sum(Math.Exp))];
    }

    private static Method MetaBalance(int tasks)
    {
        double[]? averages = null;
        return (scenario, _) =>
        {
            double[] norms = [.. Enumerable.Range(0, tasks).Select(t => Norm(scenario.Flat(t)))];
            averages = averages is null ? norms : [.. averages.Zip(norms, (a, b) => (0.9 * a) + (0.1 * b))];
            return scenario.Combine([.. averages.Select(a => (0.7 * averages[0] / a) + 0.3)]);
        };
    }

    private static Method Moco(int tasks)
    {
        double[][]? y = null;
        double[] lambda = [.. Enumerable.Repeat(1.0 / tasks, tasks)];
        return (scenario, step) =>
        {
            double root = Math.Sqrt(step + 1);
            double[][] g = [.. Enumerable.Range(0, tasks).Select(t => Times(scenario.Losses[t] / Norm(scenario.ColumnSum(t)), scenario.ColumnSum(t)))];
            y ??= [.. g.Select(v => new double[v.Length])];
            y = [.. y.Zip(g, (old, now) => Add(old, Times(-0.5 / root, Add(old, Times(-1, now)))))];
            double[] d = y.Zip(lambda, (v, l) => Times(l, v)).Aggregate(Add);
            lambda = ToSimplex([.. lambda.Zip(y, (l, v) => l - (0.1 / root * Dot(v, d)))]);
            return Times(tasks, scenario.Combine(lambda));
        };
    }

    private static Method Modo(int tasks)
    {
        double[] lambda = [.. Enumerable.Repeat(1.0 / tasks, tasks)];
        return (scenario, _) =>
        {
            double[] second = Enumerable.Range(0, tasks).Select(t => Times(lambda[t], scenario.ColumnSum(t, 1))).Aggregate(Add);
            lambda = ToSimplex([.. lambda.Select((l, t) => l - (1e-3 * (Dot(scenario.ColumnSum(t, 0), second) + (0.1 * l))))]);
            return Times(tasks, scenario.Combine(lambda));
        };
    }

    private static Method Sdmgrad(int tasks)
    {
        double[] w = [.. Enumerable.Repeat(1.0 / tasks, tasks)];
        return (scenario, _) =>
        {
            double[] velocity = new double[tasks];
            for (int round = 0; round < 20; round++)
            {
                double[] second = Enumerable.Range(0, tasks).Select(t => Times(w[t] + (0.3 / tasks), scenario.ColumnSum(t, 1))).Aggregate(Add);
                velocity = [.. velocity.Select((v, t) => (0.5 * v) + Dot(scenario.ColumnSum(t, 0), second))];
                w = ToSimplex(Add(w, Times(-SdmgradStep, velocity)));
            }

            return Times(tasks / 1.3, scenario.Combine([.. w.Select(value => value + (0.3 / tasks))]));
        };
    }

    private static Method DbMtl(int tasks)
    {
        double[][]? b = null;
        return (scenario, _) =>
        {
            double[][] g = [.. Enumerable.Range(0, tasks).Select(t => Times(1 / scenario.Losses[t], scenario.ColumnSum(t)))];
            b = b is null ? g : [.. b.Zip(g, (old, now) => Add(now, Times(0.9, Add(old, Times(-1, now)))))];
            return scenario.Combine([.. b.Select((v, t) => b.Max(Norm) / Norm(v) / scenario.Losses[t])]);
        };
    }

    private static Method ExcessMtl(int tasks)
    {
        double[][]? squares = null;
        double[]? first = null;
        double[] w = [.. Enumerable.Repeat(1.0, tasks)];
        return (scenario, _) =>
        {
            double[][] g = [.. Enumerable.Range(0, tasks).Select(t => scenario.ColumnSum(t))];
            squares ??= [.. g.Select(v => new double[v.Length])];
            squares = [.. squares.Zip(g, (s, v) => s.Zip(v, (a, x) => a + (x * x)).ToArray())];
            double[] excess = [.. g.Select((v, t) => v.Zip(squares[t], (x, s) => x * x / Math.Sqrt(s)).Sum())];
            first ??= excess;
            w = [.. w.Select((value, t) => value * Math.Exp(0.01 * excess[t] / first[t]))];
            w = Times(tasks / w.Sum(), w);
            return scenario.Combine(w);
        };
    }

    private static double[][] Rows(double[] matrix, int n) => [.. matrix.Chunk(n)];

    private static double[][] Inverse(double[][] matrix)
    {
        int n = matrix.Length;
        double[][] columns = [.. Enumerable.Range(0, n).Select(k => Solve(matrix, [.. Enumerable.Range(0, n).Select(i => i == k ? 1.0 : 0)]))];
        return [.. Enumerable.Range(0, n).Select(i => columns.Select(column => column[i]).ToArray())];
    }

    /// <summary>Adam, written out.</summary>
    private sealed class Adam(int count, double start, double rate)
    {
        private readonly double[] _m = new double[count];
        private readonly double[] _v = new double[count];
        private readonly int[] _t = new int[count];

        public double[] Values { get; } = [.. Enumerable.Repeat(start, count)];

        public void Step(int i, double g)
        {
            _t[i]++;
            _m[i] = (0.9 * _m[i]) + (0.1 * g);
            _v[i] = (0.999 * _v[i]) + (0.001 * g * g);
            Values[i] -= rate * (_m[i] / (1 - Math.Pow(0.9, _t[i]))) / (Math.Sqrt(_v[i] / (1 - Math.Pow(0.999, _t[i]))) + 1e-8);
        }
    }
}
