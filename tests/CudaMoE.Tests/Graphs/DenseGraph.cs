using System.Text;
using CudaMoE.Graphs;

namespace CudaMoE.Tests.Graphs;

/// <summary>Macro counts by dense matrix products in double, with the macro nodes of a graph file.</summary>
internal static class DenseGraph
{
    /// <summary>Fails where a graph's pairs, counts or weights are not those of the interactions.</summary>
    public static void Check(MacroGraph graph, GraphLogs log, double beta, double tau)
    {
        string[] users = [.. log.Masks.Keys.Select(key => key.User).Distinct()];
        string[] items = [.. log.Masks.Keys.Select(key => key.Item).Distinct()];
        Assert.Equal((users.Length, items.Length, (long)log.Masks.Count), (graph.Info.Users, graph.Info.Items, graph.Info.Pairs));
        int[] values = PairScores.ByRarity([.. Enumerable.Range(0, GraphLogs.Tasks.Length).Select(task => log.Masks.Values.LongCount(mask => ((mask >> task) & 1) == 1))]);
        if (graph.Info.Updates > 0)
            values = [.. graph.Info.Values];
        Assert.Equal(values, graph.Info.Values);
        double[,] s = new double[graph.Info.Users, graph.Info.Items];
        foreach (((string user, string item), int mask) in log.Masks)
            s[Node(graph, GraphSide.User, user), Node(graph, GraphSide.Item, item)] = Score(mask, values, beta);
        double[,] gu = OneHot(graph, GraphSide.User);
        double[,] gi = OneHot(graph, GraphSide.Item);
        double[,] first = Product(s, gi);
        double[,] itemFirst = Product(Transposed(s), gu);
        Compare(graph, GraphSide.User, first, Product(s, itemFirst), tau);
        Compare(graph, GraphSide.Item, itemFirst, Product(Transposed(s), first), tau);
        for (int user = 0; user < graph.Info.Users; user++)
        {
            double row = Enumerable.Range(0, graph.Info.Items).Sum(item => s[user, item]);
            Assert.Equal(row, Enumerable.Range(0, first.GetLength(1)).Sum(k => first[user, k]), 9);
        }
    }

    public static int Node(MacroGraph graph, GraphSide side, string id) => graph.Find(side, Encoding.UTF8.GetBytes(id));

    /// <summary>The Box-Cox score, rounded as the documentation says.</summary>
    private static double Score(int mask, int[] values, double beta)
    {
        int rank = 0;
        for (int task = 0; task < values.Length; task++)
            rank += ((mask >> task) & 1) * (1 << values[task]);
        double exact = beta == 0 ? Math.Log(rank + 1) : (Math.Pow(rank + 1, beta) - 1) / beta;
        return Math.Round(exact * 1024) / 1024;
    }

    private static void Compare(MacroGraph graph, GraphSide side, double[,] first, double[,] second, double tau)
    {
        for (int node = 0; node < graph.Nodes(side); node++)
        {
            // Multiples of 2^-10 and 2^-20 below 2^33 are exact in double.
            Assert.Equal(Row(first, node), graph.First(side, node).ToArray().Select(count => count / 1024.0));
            Assert.Equal(Row(second, node), graph.Second(side, node).ToArray().Select(count => count / (1024.0 * 1024.0)));
            float[] weights = graph.Weights(side, node).ToArray();
            int width = first.GetLength(1);
            CompareWeights(Row(first, node), weights[..width], tau);
            CompareWeights(Row(second, node), weights[width..], tau);
        }
    }

    private static void CompareWeights(double[] counts, float[] weights, double tau)
    {
        double[] powers = [.. counts.Select(count => Math.Pow(count + 1, 1 / tau))];
        for (int k = 0; k < counts.Length; k++)
            Assert.Equal(powers[k] / powers.Sum(), weights[k], 1e-6);
        Assert.Equal(1, weights.Sum(weight => (double)weight), 1e-5);
    }

    private static double[] Row(double[,] matrix, int row) => [.. Enumerable.Range(0, matrix.GetLength(1)).Select(column => matrix[row, column])];

    private static double[,] OneHot(MacroGraph graph, GraphSide side)
    {
        double[,] matrix = new double[graph.Nodes(side), graph.MacroNodes(side)];
        for (int node = 0; node < graph.Nodes(side); node++)
            matrix[node, graph.Assignment(side)[node]] = 1;
        return matrix;
    }

    private static double[,] Transposed(double[,] matrix)
    {
        double[,] result = new double[matrix.GetLength(1), matrix.GetLength(0)];
        for (int i = 0; i < matrix.GetLength(0); i++)
        {
            for (int j = 0; j < matrix.GetLength(1); j++)
                result[j, i] = matrix[i, j];
        }

        return result;
    }

    private static double[,] Product(double[,] a, double[,] b)
    {
        double[,] result = new double[a.GetLength(0), b.GetLength(1)];
        for (int i = 0; i < a.GetLength(0); i++)
        {
            for (int k = 0; k < a.GetLength(1); k++)
            {
                for (int j = 0; a[i, k] != 0 && j < b.GetLength(1); j++)
                    result[i, j] += a[i, k] * b[k, j];
            }
        }

        return result;
    }
}
