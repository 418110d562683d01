using CudaMoE.Description;

namespace CudaMoE.Tests.Models;

/// <summary>The chain of AITM as its equations say, in double precision, for one sample.</summary>
/// <param name="transfer">The chain.</param>
/// <param name="tasks">The tasks.</param>
/// <param name="parameters">The parameters' values by name.</param>
/// <param name="activate">The model's activation.</param>
internal sealed class TransferReference(
    TransferDescription transfer,
    IReadOnlyList<TaskDescription> tasks,
    IReadOnlyDictionary<string, double[]> parameters,
    Func<double, double> activate)
{
    public static int[] Chain(TransferDescription transfer, IReadOnlyList<TaskDescription> tasks) => transfer.Chain.Count == 0
        ? [.. Enumerable.Range(0, tasks.Count)]
        : [.. transfer.Chain.Select(name => tasks.ToList().FindIndex(task => task.Name == name))];

    /// <summary>z from q, [tasks][width]; with <paramref name="constants"/> what is handed on is made of these instead of z.</summary>
    public double[][] Representations(double[][] q, double[][]? constants)
    {
        int[] chain = Chain(transfer, tasks);
        double[][] z = [.. q];
        for (int i = 1; i < chain.Length; i++)
        {
            string name = $"transfer.{tasks[chain[i]].Name}";
            double[] earlier = (constants ?? z)[chain[i - 1]];
            int width = earlier.Length;
            double[] bias = parameters[$"{name}.info.layers.0.bias"];
            double[] handedOn = [.. Product(parameters[$"{name}.info.layers.0.weight"], 0, earlier).Select((v, j) => activate(v + bias[j]))];
            double[][] items = [q[chain[i]], handedOn];
            double[] weight = parameters[$"{name}.attention.weight"];
            double[] scores = [.. items.Select(u => Product(weight, 0, u).Zip(Product(weight, 1, u), (a, b) => a * b).Sum() / Math.Sqrt(width))];
            double first = 1 / (1 + Math.Exp(scores[1] - scores[0]));
            z[chain[i]] = [.. Product(weight, 2, items[0]).Zip(Product(weight, 2, items[1]), (a, b) => (first * a) + ((1 - first) * b))];
        }

        return z;
    }

    /// <summary>The product with matrix <paramref name="part"/> of several square ones.</summary>
    private static double[] Product(double[] weight, int part, double[] x)
    {
        int width = x.Length;
        double[] y = new double[width];
        for (int i = 0; i < width; i++)
        {
            for (int j = 0; j < width; j++)
                y[i] += weight[(((part * width) + i) * width) + j] * x[j];
        }

        return y;
    }
}
