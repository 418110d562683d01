using CudaMoE.Description;

namespace CudaMoE.Tests.Models;

/// <summary>MGOE as its equations say: one sample, one task after the other, in double precision, macro node by macro node.</summary>
/// <param name="architecture">The model.</param>
/// <param name="tasks">Number of tasks.</param>
/// <param name="parameters">The parameters' values by name.</param>
/// <param name="expert">The output of an expert on an input.</param>
internal sealed class MgoeReference(
    ArchitectureDescription architecture,
    int tasks,
    IReadOnlyDictionary<string, double[]> parameters,
    Func<int, double[], double[]> expert)
{
    private readonly MacroDescription _macro = architecture.Macro!;

    private int Tables => _macro.Tables switch
    {
        MacroTables.PerTask => tasks + 1,
        MacroTables.Shared => 1,
        _ => 0,
    };

    /// <summary>What each tower reads.</summary>
    /// <param name="x">The feature row.</param>
    /// <param name="user">The user's row of its table.</param>
    /// <param name="item">The item's row of its table.</param>
    /// <param name="userEmbedding">The user's embedding.</param>
    /// <param name="itemEmbedding">The item's embedding.</param>
    public double[][] Representations(double[] x, int user, int item, double[] userEmbedding, double[] itemEmbedding)
    {
        int users = _macro.UserNodes + 1;
        int items = _macro.ItemNodes + 1;
        double[][] units = new double[tasks + 1][];
        double[][] summaries = new double[tasks][];
        for (int unit = 0; unit <= tasks; unit++)
        {
            units[unit] = x;
            if (Tables == 0)
                continue;
            int table = Tables == 1 ? 0 : unit;
            double[] u1 = Aggregate("item", table, Weights("user", user, 0, items), itemEmbedding);
            double[] u2 = Aggregate("user", table, Weights("user", user, items, users), userEmbedding);
            double[] i1 = Aggregate("user", table, Weights("item", item, 0, users), userEmbedding);
            double[] i2 = Aggregate("item", table, Weights("item", item, users, items), itemEmbedding);
            units[unit] = [.. x, .. u1, .. u2, .. i1, .. i2];
            if (unit < tasks)
                summaries[unit] = [.. u1, .. i1];
        }

        int own = architecture.Experts!.PerTask ?? 1;
        int count = (tasks * own) + architecture.Experts.Shared!.Value;
        double[][] outputs = [.. Enumerable.Range(0, count).Select(e => expert(e, units[Math.Min(e / own, tasks)]))];
        double[][] h = [.. Enumerable.Range(0, tasks).Select(t => Mix(Gate(t, count, units[t]), outputs))];
        if (_macro.Coupling)
            h = Couple(h);
        return [.. h.Select((row, t) => Tables == 0 ? row : [.. row, .. summaries[t]])];
    }

    private static double[] Softmax(double[] z)
    {
        double max = z.Max();
        double sum = z.Sum(v => Math.Exp(v - max));
        return [.. z.Select(v => Math.Exp(v - max) / sum)];
    }

    private static double[] Mix(double[] weights, double[][] rows)
    {
        double[] sum = new double[rows[0].Length];
        for (int k = 0; k < weights.Length; k++)
        {
            for (int j = 0; j < sum.Length; j++)
                sum[j] += weights[k] * rows[k][j];
        }

        return sum;
    }

    private static double Dot(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        double sum = 0;
        for (int i = 0; i < b.Length; i++)
            sum += a[i] * b[i];
        return sum;
    }

    /// <summary>rows first .. first + count of a matrix [.., x.Length], times x.</summary>
    private static double[] Product(double[] matrix, int first, int count, double[] x)
    {
        double[] y = new double[count];
        for (int i = 0; i < count; i++)
            y[i] = Dot(matrix.AsSpan((first + i) * x.Length, x.Length), x);
        return y;
    }

    private double[] Weights(string side, int row, int first, int count)
    {
        int width = _macro.UserNodes + _macro.ItemNodes + 2;
        return parameters[$"macro.{side}.weights"][((row * width) + first)..((row * width) + first + count)];
    }

    /// <summary>sum over k of w_k alpha_k W_V p_k.</summary>
    private double[] Aggregate(string side, int table, double[] weights, double[] target)
    {
        int d = target.Length;
        double[][] nodes = [.. Enumerable.Range(0, weights.Length).Select(k => parameters[$"macro.{side}.nodes.weight"][(((k * Tables) + table) * d)..(((k * Tables) + table + 1) * d)])];
        double[][] values = [.. nodes.Select(p => Product($"macro.{side}.value.weight", table, p))];
        if (_macro.Attention == MacroAttention.Degenerate)
            return Mix(weights, values);
        double[] key = Product($"macro.{side}.key.weight", table, target);
        double[] alpha = Softmax([.. nodes.Select(p => Dot(Product($"macro.{side}.query.weight", table, p), key) / Math.Sqrt(2 * d))]);
        return Mix([.. weights.Zip(alpha, (w, a) => w * a)], values);
    }

    private double[] Product(string name, int table, double[] x) => Product(parameters[name], table * 2 * x.Length, 2 * x.Length, x);

    private double[] Gate(int task, int count, double[] x)
    {
        double[] logits = Product(parameters["gate.weight"], task * count, count, x);
        if (parameters.GetValueOrDefault("gate.bias") is { } bias)
        {
            for (int i = 0; i < count; i++)
                logits[i] += bias[(task * count) + i];
        }

        return Softmax(logits);
    }

    private double[][] Couple(double[][] h)
    {
        int width = h[0].Length;
        double[] weight = parameters["coupling.weight"];
        double[][] Rows(int part) => [.. h.Select(row => Product(weight, part * width, width, row))];
        double[][] q = Rows(0);
        double[][] k = Rows(1);
        double[][] v = Rows(2);
        return
        [
            .. h.Select((row, t) =>
            {
                double[] added = Mix(Softmax([.. k.Select(key => Dot(q[t], key) / Math.Sqrt(width))]), v);
                return row.Zip(added, (a, b) => a + b).ToArray();
            }),
        ];
    }
}
