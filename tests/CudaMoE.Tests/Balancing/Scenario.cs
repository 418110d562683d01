using CudaMoE.Balancing;
using CudaMoE.Description;

namespace CudaMoE.Tests.Balancing;

/// <summary>Steps of a balancer on explicit gradients: a matrix of rows and columns for each task, as on a representation.</summary>
internal sealed class Scenario
{
    private readonly double[][][] _gradients;

    private Scenario(double[][][] gradients, double[] losses)
    {
        _gradients = gradients;
        Losses = losses;
    }

    public double[] Losses { get; }

    public int Tasks => _gradients.Length;

    /// <summary>A task's gradient, flattened.</summary>
    public double[] Flat(int task) => [.. _gradients[task].SelectMany(row => row)];

    /// <summary>Sum over the rows of a task's gradient; with a half, over the even (0) or odd (1) rows, doubled.</summary>
    public double[] ColumnSum(int task, int half = -1)
    {
        double[] sum = new double[_gradients[task][0].Length];
        for (int row = 0; row < _gradients[task].Length; row++)
        {
            for (int k = 0; k < sum.Length; k++)
                sum[k] += half < 0 ? _gradients[task][row][k] : row % 2 == half ? 2 * _gradients[task][row][k] : 0;
        }

        return sum;
    }

    /// <summary>Gradients of one row.</summary>
    public static Scenario OneRow(double[][] gradients, double[] losses) => new([.. gradients.Select(g => new[] { g })], losses);

    public static Scenario Random(Random random, int tasks, int rows = 4, int columns = 5)
    {
        double[][][] gradients = [.. Enumerable.Range(0, tasks).Select(_ =>
        {
            double scale = Math.Exp((random.NextDouble() * 2) - 1);
            double[] bias = [.. Enumerable.Range(0, columns).Select(_ => scale * (random.NextDouble() - 0.4))];
            return Enumerable.Range(0, rows).Select(_ => bias.Select(b => b + (scale * (random.NextDouble() - 0.5))).ToArray()).ToArray();
        })];
        return new(gradients, [.. Enumerable.Range(0, tasks).Select(_ => 0.1 + random.NextDouble())]);
    }

    /// <summary>The same tasks in another order, each gradient and loss multiplied by a factor.</summary>
    public Scenario Change(int[] order, double[] factors) => new(
        [.. order.Select(t => _gradients[t].Select(row => row.Select(v => v * factors[t]).ToArray()).ToArray())],
        [.. order.Select(t => Losses[t] * factors[t])]);

    public double[] Gram()
    {
        double[] gram = new double[Tasks * Tasks];
        for (int i = 0; i < Tasks; i++)
        {
            for (int j = 0; j < Tasks; j++)
                gram[(i * Tasks) + j] = Vectors.Dot(Flat(i), Flat(j));
        }

        return gram;
    }

    public double[] Columns(ColumnKind kind) => kind switch
    {
        ColumnKind.None => [],
        ColumnKind.Halves => [.. new[] { 0, 1 }.SelectMany(half => Enumerable.Range(0, Tasks).SelectMany(t => ColumnSum(t, half)))],
        _ => [.. Enumerable.Range(0, Tasks).SelectMany(t => ColumnSum(t))],
    };

    /// <summary>Runs one step, with losses after it that are all lower by the same part.</summary>
    public double[] Step(IBalancer balancer, long step = 0, bool[]? valid = null)
    {
        double[] weights = new double[Tasks];
        Array.Fill(weights, double.NaN);
        bool gram = balancer.NeedsGram(step);
        balancer.Weights(new(step, Losses, gram ? Gram() : [], valid, gram ? Columns(balancer.NeedsColumns) : []), weights);
        if (balancer.NeedsLossesAfterStep)
            balancer.ObserveAfterStep(new(step, [.. Losses.Select((loss, t) => loss * (0.7 + (0.1 * t)))], default, valid));
        return weights;
    }

    /// <summary>The combined gradient, flattened.</summary>
    public double[] Combine(double[] weights)
    {
        double[] sum = new double[Flat(0).Length];
        for (int t = 0; t < Tasks; t++)
            sum = Vectors.Add(sum, Vectors.Times(weights[t], Flat(t)));
        return sum;
    }
}

/// <summary>Plain arithmetic of vectors.</summary>
internal static class Vectors
{
    public static double Dot(double[] a, double[] b) => a.Zip(b, (x, y) => x * y).Sum();

    public static double Norm(double[] a) => Math.Sqrt(Dot(a, a));

    public static double[] Add(double[] a, double[] b) => [.. a.Zip(b, (x, y) => x + y)];

    public static double[] Times(double factor, double[] a) => [.. a.Select(x => factor * x)];

    /// <summary>Solves a square system by elimination with pivots.</summary>
    public static double[] Solve(double[][] matrix, double[] right)
    {
        int n = right.Length;
        double[][] a = [.. matrix.Select((row, i) => row.Append(right[i]).ToArray())];
        for (int column = 0; column < n; column++)
        {
            int pivot = Enumerable.Range(column, n - column).MaxBy(row => Math.Abs(a[row][column]));
            (a[column], a[pivot]) = (a[pivot], a[column]);
            for (int row = 0; row < n; row++)
            {
                double factor = row == column ? 0 : a[row][column] / a[column][column];
                for (int k = column; k <= n; k++)
                    a[row][k] -= factor * a[column][k];
            }
        }

        return [.. Enumerable.Range(0, n).Select(i => a[i][n] / a[i][i])];
    }

    /// <summary>The nearest point of the simplex, by bisection on the amount that is taken off.</summary>
    public static double[] ToSimplex(double[] point, double sum = 1)
    {
        double low = point.Min() - sum;
        double high = point.Max();
        for (int round = 0; round < 200; round++)
        {
            double middle = (low + high) / 2;
            if (point.Sum(v => Math.Max(v - middle, 0)) > sum)
                low = middle;
            else
                high = middle;
        }

        return [.. point.Select(v => Math.Max(v - high, 0))];
    }

    public static void Close(double[] expected, double[] actual, double tolerance)
    {
        Assert.Equal(expected.Length, actual.Length);
        double scale = Math.Max(1, expected.Max(Math.Abs));
        for (int i = 0; i < expected.Length; i++)
            Assert.True(Math.Abs(expected[i] - actual[i]) <= tolerance * scale, $"entry {i} is {actual[i]}; expected {expected[i]}");
    }
}

/// <summary>Every type of balancer.</summary>
internal static class AllBalancers
{
    public static readonly BalancerType[] Types = Enum.GetValues<BalancerType>();

    public static IEnumerable<BalancerType> Gradients => Types.Where(type => BalancerFacts.Of(type).UsesGradients);

    public static TheoryData<BalancerType> Data(Func<BalancerType, bool>? where = null) => [.. Types.Where(where ?? (_ => true))];

    public static IBalancer Create(BalancerType type, int tasks = 3, long period = 3) => BalancerFactory.Create(Describe(type), [.. Enumerable.Repeat(1.0, tasks)], 7, period);

    /// <summary>A description whose periods are over within a few steps.</summary>
    public static BalancerDescription Describe(BalancerType type) => new() { Type = type, Warmup = type == BalancerType.Stch ? 2 : null };
}
