namespace CudaMoE.Cli.Tests;

/// <summary>
/// The model of XSMoE's authors (classes ModelMM, LadderSMoE and UserEncoder of their code) with random tensors in its own names and shapes, and its forward pass as
/// that code states it: sequences padded in front with item 0, one column of the loss for every place, in double precision and without dropout.
/// </summary>
internal sealed class XsmoeLibrary
{
    private const double Epsilon = 1e-6;
    private static readonly string[] Encoders = ["cv_encoder", "text_encoder"];
    private readonly int[] _widths;
    private readonly int[][] _experts;
    private readonly int _adapter;
    private readonly int _hidden;
    private readonly int _heads;
    private readonly int _blocks;
    private readonly int _history;
    private readonly Random _random;

    public XsmoeLibrary(int width, int[][] experts, int adapter, int hidden, int heads, int blocks, int history, Random random)
    {
        (_widths, _experts, _adapter, _hidden, _heads, _blocks, _history, _random) = ([width, width], experts, adapter, hidden, heads, blocks, history, random);
        for (int m = 0; m < Encoders.Length; m++)
        {
            for (int j = 0; j < experts[m].Length; j++)
            {
                string ladder = $"multimodal_encoder.{Encoders[m]}";
                for (int k = 0; k < experts[m][j]; k++)
                {
                    Add($"{ladder}.moes.{j}.experts.{k}.fc_down.weight", adapter, width);
                    Add($"{ladder}.moes.{j}.experts.{k}.fc_up.weight", width, adapter);
                }

                Add($"{ladder}.routers.{j}.linear.weight", experts[m][j] + 1, width);
            }
        }

        Linear("multimodal_encoder.com_dense", 2 * width, hidden);
        Add("user_encoder.encoder.position_embedding.weight", history, hidden);
        Norm("user_encoder.encoder.layer_norm");
        for (int b = 0; b < blocks; b++)
        {
            string block = $"user_encoder.encoder.transformer_blocks.{b}";
            foreach (string part in new[] { "w_Q", "w_K", "w_V", "fc" })
                Add($"{block}.multi_head_attention.{part}.weight", hidden, hidden);
            Norm($"{block}.multi_head_attention.layer_norm");
            Linear($"{block}.feed_forward.w_1", hidden, 4 * hidden);
            Linear($"{block}.feed_forward.w_2", 4 * hidden, hidden);
            Norm($"{block}.feed_forward.layer_norm");
        }
    }

    public Dictionary<string, (long[] Shape, float[] Values)> Tensors { get; } = [];

    /// <summary>One number of a tensor that <see cref="Loss"/> takes another value of, for differences.</summary>
    public (string Name, int Index, double Value)? Changed { get; set; }

    /// <summary>The vector of an item whose states are [1 + layers][width] for each modality.</summary>
    public double[] Item(double[][][] states)
    {
        List<double> highest = [];
        for (int m = 0; m < Encoders.Length; m++)
        {
            string ladder = $"multimodal_encoder.{Encoders[m]}";
            double[] x = states[m][0];
            for (int j = 0; j < _experts[m].Length; j++)
            {
                double[] gates = Softmax(Product($"{ladder}.routers.{j}.linear.weight", x));
                double[] next = [.. states[m][j + 1].Select(value => gates[0] * value)];
                for (int k = 0; k < _experts[m][j]; k++)
                {
                    double[] hidden = [.. Product($"{ladder}.moes.{j}.experts.{k}.fc_down.weight", x).Select(Gelu)];
                    double[] up = Product($"{ladder}.moes.{j}.experts.{k}.fc_up.weight", hidden);
                    for (int i = 0; i < next.Length; i++)
                        next[i] += gates[k + 1] * (up[i] + x[i]);
                }

                x = next;
            }

            highest.AddRange(x);
        }

        return Layer("multimodal_encoder.com_dense", [.. highest]);
    }

    /// <summary>The user's vector at each place of a sequence's first <c>history</c> places, padding included.</summary>
    public double[][] Users(double[][] items, bool[] valid)
    {
        double[][] x = [.. items.Select((item, p) => Normalized("user_encoder.encoder.layer_norm", [.. item.Select((v, i) => v + At("user_encoder.encoder.position_embedding.weight", (p * _hidden) + i))]))];
        int width = _hidden / _heads;
        for (int b = 0; b < _blocks; b++)
        {
            string attention = $"user_encoder.encoder.transformer_blocks.{b}.multi_head_attention", feed = $"user_encoder.encoder.transformer_blocks.{b}.feed_forward";
            double[][] q = [.. x.Select(row => Product($"{attention}.w_Q.weight", row))], k = [.. x.Select(row => Product($"{attention}.w_K.weight", row))];
            double[][] v = [.. x.Select(row => Product($"{attention}.w_V.weight", row))];
            double[][] heads = [.. x.Select(_ => new double[_hidden])];
            for (int p = 0; p < x.Length; p++)
            {
                for (int h = 0; h < _heads; h++)
                {
                    int[] columns = [.. Enumerable.Range(h * width, width)];
                    double[] weights = Softmax([.. Enumerable.Range(0, x.Length).Select(o => (columns.Sum(c => q[p][c] * k[o][c]) / Math.Sqrt(width)) + (o <= p && valid[o] ? 0 : -1e9))]);
                    foreach (int c in columns)
                        heads[p][c] = Enumerable.Range(0, x.Length).Sum(o => weights[o] * v[o][c]);
                }
            }

            x = [.. x.Select((row, p) => Normalized($"{attention}.layer_norm", Sum(row, Product($"{attention}.fc.weight", heads[p]))))];
            x = [.. x.Select(row => Normalized($"{feed}.layer_norm", Sum(row, Layer($"{feed}.w_2", [.. Layer($"{feed}.w_1", row).Select(z => Math.Max(z, 0))]))))];
        }

        return x;
    }

    /// <summary>The in-batch loss: every place of every sequence is a column.</summary>
    /// <param name="ids">[sequences][history + 1], padded in front with 0.</param>
    /// <param name="vectors">Vectors of all items, the padding's among them.</param>
    /// <param name="popularity">Of all items; 1 for padding.</param>
    public double Loss(int[][] ids, double[][] vectors, double[] popularity)
    {
        double sum = 0;
        int count = 0;
        for (int s = 0; s < ids.Length; s++)
        {
            bool[] valid = [.. ids[s].Take(_history).Select(id => id != 0)];
            double[][] users = Users([.. ids[s].Take(_history).Select(id => vectors[id])], valid);
            for (int p = 0; p < _history; p++)
            {
                if (!valid[p])
                    continue;
                List<double> scores = [];
                double own = 0;
                for (int t = 0; t < ids.Length; t++)
                {
                    for (int o = 0; o <= _history; o++)
                    {
                        int id = ids[t][o];
                        bool target = t == s && o == p + 1;
                        double score = id == 0 || (!target && ids[s].Contains(id)) ? -1e4 : users[p].Zip(vectors[id], (a, b) => a * b).Sum() - Math.Log(popularity[id]);
                        scores.Add(score);
                        if (target)
                            own = score;
                    }
                }

                double max = scores.Max();
                sum += max + Math.Log(scores.Sum(score => Math.Exp(score - max))) - own;
                count++;
            }
        }

        return sum / count;
    }

    private void Norm(string name)
    {
        Add($"{name}.weight", _hidden);
        Add($"{name}.bias", _hidden);
    }

    private void Linear(string name, int inputs, int outputs)
    {
        Add($"{name}.weight", outputs, inputs);
        Add($"{name}.bias", outputs);
    }

    private void Add(string name, params long[] shape) =>
        Tensors.Add(name, (shape, [.. Enumerable.Range(0, (int)shape.Aggregate(1L, (a, b) => a * b)).Select(_ => (float)(_random.NextDouble() - 0.5))]));

    private double At(string name, int index) => Changed is { } changed && changed.Name == name && changed.Index == index ? changed.Value : Tensors[name].Values[index];

    private double[] Product(string name, double[] x) =>
        [.. Enumerable.Range(0, (int)Tensors[name].Shape[0]).Select(o => Enumerable.Range(0, x.Length).Sum(i => At(name, (o * x.Length) + i) * x[i]))];

    private double[] Layer(string name, double[] x) => [.. Product($"{name}.weight", x).Select((value, o) => value + At($"{name}.bias", o))];

    private double[] Normalized(string name, double[] x)
    {
        double mean = x.Average(), deviation = Math.Sqrt(x.Average(value => (value - mean) * (value - mean)) + Epsilon);
        return [.. x.Select((value, i) => ((value - mean) / deviation * At($"{name}.weight", i)) + At($"{name}.bias", i))];
    }

    private static double[] Sum(double[] a, double[] b) => [.. a.Zip(b, (x, y) => x + y)];

    private static double[] Softmax(double[] z)
    {
        double max = z.Max();
        double[] e = [.. z.Select(value => Math.Exp(value - max))];
        return [.. e.Select(value => value / e.Sum())];
    }

    private static double Gelu(double z)
    {
        double x = z / Math.Sqrt(2), term = x, erf = x;
        for (int n = 1; n < 100; n++)
        {
            term *= -x * x / n;
            erf += term / ((2 * n) + 1);
        }

        return z * 0.5 * (1 + (2 / Math.Sqrt(Math.PI) * erf));
    }
}
