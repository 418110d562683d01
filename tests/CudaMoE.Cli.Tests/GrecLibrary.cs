namespace CudaMoE.Cli.Tests;

/// <summary>
/// The released model of GRec (class GRec with ParallelTransformerAEP, ContextHead and MoEFFLayer) with random tensors in its own names and shapes, and its forward pass as that code states
/// it outside of training, in double precision: without the router's jitter, which that code draws anew in every pass.
/// </summary>
internal sealed class GrecLibrary
{
    public const int Width = 8;
    public const int Positions = 4;
    public const int Pages = 5;
    public const int Items = 6;
    public const int Metas = 4;
    public const int Deep = 5;
    public const int Wide = 3;
    public const int TextWidth = 5;
    public const int Tasks = 2;
    public const int Experts = 3;
    public const int Capacity = 2;
    private const int Heads = 2;
    private const int Blocks = 2;
    private const int Combined = 5 * Width;
    private readonly Random _random;

    public GrecLibrary(Random random)
    {
        _random = random;
        Add("page_embedding.weight", Pages, Width);
        Add("item_embedding.weight", Items, 4);
        Add("item_meta_embedding.weight", Metas, 2);
        Add("item_pre_embedding.weight", Items, 2);
        foreach (string table in new[] { "page_embedding.weight", "item_embedding.weight", "item_meta_embedding.weight", "item_pre_embedding.weight" })
            Tensors.Add($"sequence_transformer.{table}", Tensors[table]);
        Add("task_embedding.0.weight", Tasks, Width);
        Add("context_head.deep_embedding.0.weight", Deep, 3);
        Add("context_head.deep_embedding.1.weight", Deep, 3);
        Linear("context_head.deep_dense", 6, Width / 2);
        Linear("context_head.wide_dense", Wide, Width / 2);
        Add("context_head.wide_batch_norm.weight", Wide);
        Add("context_head.wide_batch_norm.bias", Wide);
        Add("context_head.wide_batch_norm.running_mean", Wide);
        Tensors.Add("context_head.wide_batch_norm.running_var", ([Wide], [0.3f, 2f, 0.9f]));
        for (int i = 0; i < Blocks; i++)
            Block($"sequence_transformer.ptransformer.{i}.fn", Heads);
        Linear("sequence_transformer.seq_dense", 2 * Width, Width);
        Linear("seq_dense", Width, Width);
        Linear("nlp_dense", TextWidth, Width);
        Add("nlp_encoder.embeddings.word_embeddings.weight", 3, 2);
        Block("att_pooling", 1);
        Add("moe.layer_norm.weight", Width);
        Linear("moe.mlp.router.classifier", Width, Experts);
        for (int e = 0; e < Experts; e++)
        {
            Add($"moe.mlp.experts.expert_{e}.wi.weight", Width, Width);
            Add($"moe.mlp.experts.expert_{e}.wo.weight", Width, Width);
        }

        Linear("tasks_dense1", Combined, Combined / 2);
        Add("tasks_dense2.weight", Items, Combined / 2);
    }

    public Dictionary<string, (long[] Shape, float[] Values)> Tensors { get; } = [];

    /// <summary>One number of a tensor that <see cref="Logits"/> takes another value of, for differences.</summary>
    public (string Name, int Index, double Value)? Changed { get; set; }

    /// <summary>Tokens that the last pass found no expert for.</summary>
    public int Dropped { get; private set; }

    /// <summary>Logits of all items for a row of a task.</summary>
    public double[] Logits(GrecSample sample, int task)
    {
        double[] context = [.. Act(Layer("context_head.deep_dense", [.. Row("context_head.deep_embedding.0.weight", sample.Deep[0]), .. Row("context_head.deep_embedding.1.weight", sample.Deep[1])])), .. Act(Layer("context_head.wide_dense", Normalized(sample.Wide)))];
        double[] text = Layer("nlp_dense", sample.Text);
        double[] current = Item(sample.Current, sample.CurrentMeta);
        double[][] tokens = Attend("att_pooling", 1, [Sequence(sample), context, text, current, Row("task_embedding.0.weight", task)], 5);
        double[] sentence = [.. Mix(tokens).SelectMany(token => token)];
        return Product("tasks_dense2.weight", Act(Layer("tasks_dense1", sentence)));
    }

    private double[] Sequence(GrecSample sample)
    {
        double[][] x = [.. Enumerable.Range(0, Positions).Select(p => Row("page_embedding.weight", sample.Pages[p]).Zip(Item(sample.Items[p], sample.Metas[p]), (a, b) => a * b).ToArray())];
        for (int i = 0; i < Blocks; i++)
            x = [.. x.Zip(Attend($"sequence_transformer.ptransformer.{i}.fn", Heads, x, sample.ValidLength), Sum)];
        double[] pooled = [.. Columns(x).Select(column => column.Average()), .. Columns(x).Select(column => column.Max())];
        return Layer("seq_dense", Layer("sequence_transformer.seq_dense", pooled));
    }

    private double[] Item(int item, int meta) => [.. Row("item_embedding.weight", item), .. Row("item_meta_embedding.weight", meta), .. Row("item_pre_embedding.weight", item)];

    private double[][] Attend(string name, int heads, double[][] x, int valid)
    {
        double[][] u = [.. x.Select(row =>
        {
            double mean = row.Average(), deviation = Math.Sqrt(row.Average(v => (v - mean) * (v - mean)) + 1e-5);
            return row.Select((v, i) => (v - mean) / deviation * At($"{name}.norm.gamma", i)).ToArray();
        })];
        double[][] all = [.. u.Select(row => Product($"{name}.fused_attn_ff_proj.weight", row))];
        int query = heads * Width, hidden = 4 * Width;
        double[][] k = [.. all.Select((row, p) => Rotated(row[query..(query + Width)], p))];
        double[][] y = new double[x.Length][];
        for (int p = 0; p < x.Length; p++)
        {
            double[] attended = new double[query];
            for (int h = 0; h < heads; h++)
            {
                double[] q = Rotated(all[p][(h * Width)..((h + 1) * Width)], p);
                double[] scores = [.. Enumerable.Range(0, valid).Select(o => q.Zip(k[o], (a, b) => a * b).Sum() / Math.Sqrt(Width))];
                double[] weights = Softmax(scores);
                for (int c = 0; c < Width; c++)
                    attended[(h * Width) + c] = Enumerable.Range(0, valid).Sum(o => weights[o] * all[o][query + Width + c]);
            }

            double[] a = all[p][(query + (2 * Width))..(query + (2 * Width) + hidden)], gate = all[p][(query + (2 * Width) + hidden)..];
            y[p] = Sum(Product($"{name}.attn_out.weight", attended), Product($"{name}.ff_out.1.weight", [.. a.Zip(gate, (v, g) => v * g / (1 + Math.Exp(-g)))]));
        }

        return y;
    }

    private double[][] Mix(double[][] tokens)
    {
        int[] taken = new int[Experts];
        Dropped = 0;
        return [.. tokens.Select(token =>
        {
            double root = Math.Sqrt(token.Average(v => v * v) + 1e-6);
            double[] u = [.. token.Select((v, i) => v / root * At("moe.layer_norm.weight", i))];
            double[] p = Softmax(Layer("moe.mlp.router.classifier", u));
            int expert = Array.IndexOf(p, p.Max());
            bool kept = ++taken[expert] <= Capacity;
            Dropped += kept ? 0 : 1;
            string name = $"moe.mlp.experts.expert_{expert}";
            double[] next = kept ? Product($"{name}.wo.weight", Act(Product($"{name}.wi.weight", u))) : u;
            return Sum(token, [.. next.Select(v => v * p[expert])]);
        })];
    }

    private double[] Normalized(double[] wide) =>
    [
        .. wide.Select((v, i) => ((v - At("context_head.wide_batch_norm.running_mean", i)) / Math.Sqrt(At("context_head.wide_batch_norm.running_var", i) + 1e-5)
            * At("context_head.wide_batch_norm.weight", i)) + At("context_head.wide_batch_norm.bias", i)),
    ];

    private void Block(string name, int heads)
    {
        Add($"{name}.norm.gamma", Width);
        Tensors.Add($"{name}.norm.beta", ([Width], new float[Width]));
        Add($"{name}.rotary_emb.inv_freq", Width / 2);
        Add($"{name}.fused_attn_ff_proj.weight", (heads * Width) + (2 * Width) + (8 * Width), Width);
        Add($"{name}.attn_out.weight", Width, heads * Width);
        Add($"{name}.ff_out.1.weight", Width, 4 * Width);
    }

    private void Linear(string name, int inputs, int outputs)
    {
        Add($"{name}.weight", outputs, inputs);
        Add($"{name}.bias", outputs);
    }

    private void Add(string name, params long[] shape) =>
        Tensors.Add(name, (shape, [.. Enumerable.Range(0, (int)shape.Aggregate(1L, (a, b) => a * b)).Select(_ => (float)(_random.NextDouble() - 0.5))]));

    private double At(string name, int index) => Changed is { } changed && changed.Name == name && changed.Index == index ? changed.Value : Tensors[name].Values[index];

    private double[] Row(string name, int row)
    {
        int width = (int)Tensors[name].Shape[1];
        return [.. Enumerable.Range(row * width, width).Select(i => At(name, i))];
    }

    private double[] Product(string name, double[] x) =>
        [.. Enumerable.Range(0, (int)Tensors[name].Shape[0]).Select(o => Enumerable.Range(0, x.Length).Sum(i => At(name, (o * x.Length) + i) * x[i]))];

    private double[] Layer(string name, double[] x) => [.. Product($"{name}.weight", x).Select((value, o) => value + At($"{name}.bias", o))];

    /// <summary>Half against half, base 10000.</summary>
    private static double[] Rotated(double[] x, int position)
    {
        int half = x.Length / 2;
        return [.. x.Select((v, i) =>
        {
            double angle = position / Math.Pow(10000, 2.0 * (i % half) / x.Length);
            return (v * Math.Cos(angle)) + ((i < half ? -x[i + half] : x[i - half]) * Math.Sin(angle));
        })];
    }

    private static IEnumerable<double[]> Columns(double[][] x) => Enumerable.Range(0, x[0].Length).Select(c => x.Select(row => row[c]).ToArray());

    private static double[] Act(double[] x) => [.. x.Select(v => v > 0 ? v : 0.2 * v)];

    private static double[] Sum(double[] a, double[] b) => [.. a.Zip(b, (x, y) => x + y)];

    private static double[] Softmax(double[] z)
    {
        double max = z.Max();
        double[] e = [.. z.Select(value => Math.Exp(value - max))];
        return [.. e.Select(value => value / e.Sum())];
    }
}

/// <summary>Inputs of a row; sequences are padded with 0 behind <see cref="ValidLength"/>.</summary>
internal sealed record GrecSample(int[] Pages, int[] Items, int[] Metas, int ValidLength, int Current, int CurrentMeta, int[] Deep, double[] Wide, double[] Text);
