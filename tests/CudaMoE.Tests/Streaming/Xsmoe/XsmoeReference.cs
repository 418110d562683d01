using CudaMoE.Streaming.Xsmoe;
using CudaMoE.Streaming;

namespace CudaMoE.Tests.Streaming.Xsmoe;

/// <summary>
/// XSMoE in double precision as its equations stand: every expert by itself, one item after the other, every place of every sequence a column of the loss, sequences padded in front.
/// </summary>
internal sealed class XsmoeReference(XsmoeShape shape, IReadOnlyDictionary<string, double[]> parameters, Func<int, int, int, float[]> state)
{
    private const double Epsilon = 1e-6;

    /// <summary>The loss of some sequences; <paramref name="step"/> below 0 means without dropout.</summary>
    public double Loss(SequenceSet set, int[] chosen, double[] popularity, long step)
    {
        Dictionary<int, double[]> vectors = [];
        foreach (int s in chosen)
        {
            foreach (int item in set.Items(s))
                vectors.TryAdd(item, ItemVector(item));
        }

        (int Sequence, int Place, int Item)[] columns =
            [.. Enumerable.Range(0, chosen.Length).SelectMany(s => set.Items(chosen[s]).ToArray().Select((item, place) => (s, place, item)))];
        double sum = 0;
        int count = 0;
        for (int s = 0; s < chosen.Length; s++)
        {
            int[] items = set.Items(chosen[s]).ToArray();
            double[][] users = Users([.. items[..^1].Select(item => vectors[item])], s, step);
            for (int i = 0; i + 1 < items.Length; i++)
            {
                double[] scores =
                [
                    .. columns.Select(column => column.Sequence == s && column.Place == i + 1
                        ? Dot(users[i], vectors[column.Item]) - Math.Log(popularity[column.Item])
                        : items.Contains(column.Item) ? -1e4 : Dot(users[i], vectors[column.Item]) - Math.Log(popularity[column.Item])),
                ];
                double own = Dot(users[i], vectors[items[i + 1]]) - Math.Log(popularity[items[i + 1]]);
                double max = scores.Max();
                sum += max + Math.Log(scores.Sum(score => Math.Exp(score - max))) - own;
                count++;
            }
        }

        return sum / count;
    }

    /// <summary>The score of an item for the user of a sequence, from all but its last item.</summary>
    public double Score(int[] items, int item) => Dot(Users([.. items[..^1].Select(ItemVector)], 0, -1)[^1], ItemVector(item));

    public double[] ItemVector(int item)
    {
        double[] x = [.. shape.Sides.SelectMany((_, side) => Ladder(side, item))];
        return Linear(x, "fusion.weight", "fusion.bias", shape.Hidden);
    }

    /// <summary>The highest layer of a ladder, and what was seen on the way.</summary>
    public double[] Ladder(int side, int item, List<(double[] Gates, double[] X, double[] H)>? layers = null)
    {
        SideShape ladder = shape.Sides[side];
        double[] x = [.. state(side, item, 0).Select(value => (double)value)];
        for (int j = 0; j < ladder.Layers.Count; j++)
        {
            double[] h = [.. state(side, item, j + 1).Select(value => (double)value)];
            string name = $"{ladder.Name}.layers.{j}";
            double[] gates = Softmax(Product(x, parameters[$"{name}.router.weight"], ladder.Layers[j].Count + 1));
            layers?.Add((gates, x, h));
            double[] y = [.. h.Select(value => gates[0] * value)];
            for (int k = 0; k < ladder.Layers[j].Count; k++)
            {
                double[] expert = Expert($"{name}.experts.{k}", x);
                for (int i = 0; i < y.Length; i++)
                    y[i] += gates[k + 1] * expert[i];
            }

            x = y;
        }

        return x;
    }

    /// <summary>E(x) = up GELU(down x) + x.</summary>
    public double[] Expert(string name, double[] x)
    {
        double[] hidden = [.. Product(x, parameters[$"{name}.down"], shape.Adapter).Select(z => z * 0.5 * (1 + Erf(z / Math.Sqrt(2))))];
        double[] y = [.. x];
        double[] up = parameters[$"{name}.up"];
        for (int a = 0; a < hidden.Length; a++)
        {
            for (int i = 0; i < y.Length; i++)
                y[i] += hidden[a] * up[(a * y.Length) + i];
        }

        return y;
    }

    private double[][] Users(double[][] items, int sequence, long step)
    {
        int length = items.Length;
        double[] positions = parameters["user.positions"];
        double[][] x = [.. items.Select((item, i) => item.Select((value, j) => value + positions[((shape.History - length + i) * shape.Hidden) + j]).ToArray())];
        x = Drop([.. x.Select(row => Norm(row, "user.norm"))], sequence, step, 0);
        int width = shape.Hidden / shape.Heads;
        for (int b = 0; b < shape.Blocks; b++)
        {
            string name = $"user.blocks.{b}";
            double[][] qkv = [.. x.Select(row => Linear(row, $"{name}.attention.qkv.weight", $"{name}.attention.qkv.bias", 3 * shape.Hidden))];
            double[][] heads = [.. x.Select(_ => new double[shape.Hidden])];
            for (int i = 0; i < length; i++)
            {
                for (int head = 0; head < shape.Heads; head++)
                {
                    int at = head * width;
                    double[] weights = Softmax([.. Enumerable.Range(0, i + 1).Select(j =>
                        Enumerable.Range(at, width).Sum(c => qkv[i][c] * qkv[j][shape.Hidden + c]) / Math.Sqrt(width))]);
                    for (int c = at; c < at + width; c++)
                        heads[i][c] = Enumerable.Range(0, i + 1).Sum(j => weights[j] * qkv[j][(2 * shape.Hidden) + c]);
                }
            }

            double[][] branch = Drop([.. heads.Select(row => Linear(row, $"{name}.attention.output.weight", $"{name}.attention.output.bias", shape.Hidden))], sequence, step, 1 + (2 * b));
            x = [.. x.Zip(branch, (row, add) => Norm([.. row.Zip(add, (p, q) => p + q)], $"{name}.attention_norm"))];
            branch = Drop(
                [
                    .. x.Select(row => Linear(
                        [.. Linear(row, $"{name}.feed_forward.0.weight", $"{name}.feed_forward.0.bias", shape.FeedForward).Select(z => Math.Max(z, 0))],
                        $"{name}.feed_forward.1.weight",
                        $"{name}.feed_forward.1.bias",
                        shape.Hidden)),
                ],
                sequence,
                step,
                2 + (2 * b));
            x = [.. x.Zip(branch, (row, add) => Norm([.. row.Zip(add, (p, q) => p + q)], $"{name}.feed_forward_norm"))];
        }

        return x;
    }

    private double[][] Drop(double[][] rows, int sequence, long step, int place)
    {
        if (shape.Dropout == 0 || step < 0)
            return rows;
        int stride = shape.Hidden >= 16 ? (shape.Hidden + 15) / 16 * 16 : shape.Hidden;
        float[] mask = new float[shape.MaxSequences * shape.History * stride];
        Dropout.Fill(mask, shape.Dropout, shape.Seed, place, step);
        return [.. rows.Select((row, i) => row.Select((value, j) => value * mask[(((sequence * shape.History) + i) * stride) + j]).ToArray())];
    }

    private double[] Norm(double[] x, string name)
    {
        double mean = x.Average();
        double variance = x.Average(value => (value - mean) * (value - mean));
        return [.. x.Select((value, i) => ((value - mean) / Math.Sqrt(variance + Epsilon) * parameters[$"{name}.weight"][i]) + parameters[$"{name}.bias"][i])];
    }

    private double[] Linear(double[] x, string weight, string bias, int outputs) =>
        [.. Product(x, parameters[weight], outputs).Select((value, i) => value + parameters[bias][i])];

    private static double[] Product(double[] x, double[] weight, int outputs) =>
        [.. Enumerable.Range(0, outputs).Select(o => Enumerable.Range(0, x.Length).Sum(i => weight[(o * x.Length) + i] * x[i]))];

    private static double Dot(double[] a, double[] b) => a.Zip(b, (x, y) => x * y).Sum();

    private static double[] Softmax(double[] z)
    {
        double max = z.Max();
        double[] e = [.. z.Select(value => Math.Exp(value - max))];
        double sum = e.Sum();
        return [.. e.Select(value => value / sum)];
    }

    /// <summary>The error function by its Taylor series, which converges for all arguments that the tests have.</summary>
    private static double Erf(double x)
    {
        if (Math.Abs(x) > 5)
            return Math.Sign(x);
        double term = x, sum = x;
        for (int n = 1; n < 120; n++)
        {
            term *= -x * x / n;
            sum += term / ((2 * n) + 1);
        }

        return 2 / Math.Sqrt(Math.PI) * sum;
    }
}
