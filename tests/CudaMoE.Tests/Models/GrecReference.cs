using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tests.Layers;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Models;

/// <summary>A grec model as its equations say, sample by sample and token by token, in double precision and without the engine's operations.</summary>
internal sealed class GrecReference
{
    private readonly ModelDescription _description;
    private readonly ArchitectureDescription _architecture;
    private readonly GrecDescription _grec;
    private readonly BatchLayout _layout;
    private readonly IReadOnlyList<int> _outputs;
    private readonly Dictionary<string, double[]> _parameters;
    private readonly int _tasks;
    private readonly int _experts;
    private double[] _probabilitySums = [];
    private double _zSum;
    private long _routed;

    public GrecReference(MultiTaskModel model)
    {
        _description = model.Description;
        _architecture = _description.Architecture;
        _grec = _architecture.Grec!;
        _layout = model.Layout;
        _outputs = model.Outputs;
        _tasks = _grec.Routing == RoutingLevel.Token ? 1 : _outputs.Count;
        _experts = _architecture.Experts!.Count!.Value;
        _parameters = model.Parameters.ToDictionary(p => p.Name, p => Array.ConvertAll(TestDevices.Read(model, p), v => (double)v));
    }

    public IReadOnlyDictionary<string, double[]> Parameters => _parameters;

    /// <summary>Experts that each token of the last <see cref="Logits"/> chose, dropped ones left out: sample, task, token.</summary>
    public List<int>[,,] Kept { get; private set; } = new List<int>[0, 0, 0];

    /// <summary>Choices of each expert in the last <see cref="Logits"/>, dropped ones included.</summary>
    public long[] Counts { get; private set; } = [];

    /// <summary>Balance and z losses of the last <see cref="Logits"/> for given counts.</summary>
    public double AuxiliaryLoss(IReadOnlyList<long> counts)
    {
        double balance = 0;
        for (int e = 0; e < _experts; e++)
            balance += counts[e] / ((double)_routed * _architecture.Gate.TopK!.Value) * (_probabilitySums[e] / _routed);
        return (_architecture.Gate.BalanceLoss * _experts * balance) + (_architecture.Gate.ZLoss * _zSum / _routed);
    }

    /// <summary>Logits [rows][sum of outputs].</summary>
    public double[][] Logits(Batch batch)
    {
        _probabilitySums = new double[_experts];
        Counts = new long[_experts];
        _zSum = 0;
        _routed = 0;
        Kept = new List<int>[batch.Rows, _tasks, 8];
        return [.. Enumerable.Range(0, batch.Rows).Select(row => Sample(batch, row))];
    }

    /// <summary>Sum over the tasks of the weighted mean loss.</summary>
    public double[] Losses(Batch batch)
    {
        double[][] logits = Logits(batch);
        double[] losses = new double[_outputs.Count];
        int column = 0;
        for (int t = 0; t < _outputs.Count; column += _outputs[t++])
        {
            double sum = 0, total = 0;
            for (int row = 0; row < batch.Rows; row++)
            {
                double label = batch.Labels(t)[row], weight = batch.Weights(t)[row];
                if (double.IsNaN(label) || weight <= 0)
                    continue;
                double[] z = logits[row][column..(column + _outputs[t])];
                sum += weight * (_outputs[t] > 1
                    ? LogSum(z) - z[(int)label]
                    : _description.Tasks[t].Type == TaskType.Regression ? (z[0] - label) * (z[0] - label) : Math.Max(z[0], 0) - (z[0] * label) + Math.Log(1 + Math.Exp(-Math.Abs(z[0]))));
                total += weight;
            }

            losses[t] = total > 0 ? sum / total : 0;
        }

        return losses;
    }

    private static double LogSum(double[] z) => z.Max() + Math.Log(z.Sum(v => Math.Exp(v - z.Max())));

    private static double[] Vector(double[,] x, int row) => [.. Enumerable.Range(0, x.GetLength(1)).Select(c => x[row, c])];

    private static double[,] Matrix(double[][] rows)
    {
        double[,] x = new double[rows.Length, rows[0].Length];
        for (int r = 0; r < rows.Length; r++)
        {
            for (int c = 0; c < rows[0].Length; c++)
                x[r, c] = rows[r][c];
        }

        return x;
    }

    private double[] Linear(double[] x, string name, int outputs, bool bias = true) =>
        Vector(AttentionReference.Linear(Matrix([x]), _parameters[$"{name}.weight"], bias ? _parameters[$"{name}.bias"] : null, outputs), 0);

    private double Activate(double x) => _architecture.Activation switch
    {
        ActivationKind.Tanh => Math.Tanh(x),
        ActivationKind.Silu => x / (1 + Math.Exp(-x)),
        ActivationKind.LeakyRelu => x > 0 ? x : x * _architecture.ActivationSlope,
        _ => throw new NotSupportedException(),
    };

    private double[] Sample(Batch batch, int row)
    {
        double[][] shared = Heads(batch, row);
        double[] logits = [];
        for (int task = 0; task < _outputs.Count; task++)
        {
            int sentence = _tasks == 1 ? 0 : task;
            double[] x = [.. Sentence(shared, row, sentence, counted: task == sentence).SelectMany(t => t)];
            for (int layer = 0; layer <= _architecture.Tower.Count; layer++)
            {
                bool last = layer == _architecture.Tower.Count;
                x = Linear(x, $"towers.{_description.Tasks[task].Name}.layers.{layer}", last ? _outputs[task] : _architecture.Tower[layer]);
                x = last ? x : [.. x.Select(Activate)];
            }

            logits = [.. logits, .. x];
        }

        return logits;
    }

    private double[][] Heads(Batch batch, int row)
    {
        List<double[]> heads = [];
        List<(SparseInput Input, double[] Positions)> sequences = [];
        List<double> deep = [], text = [], current = [];
        int length = 0;
        for (int i = 0; i < _layout.Sparse.Count; i++)
        {
            SparseInput input = _layout.Sparse[i];
            int[] ids = Ids(batch, i, row);
            if (input.Positions > 0)
            {
                double[] positions = [.. Enumerable.Range(0, input.Positions).SelectMany(j => j < ids.Length ? Row(input, ids[j]) : Padded ? Row(input, 0) : new double[input.Dimension])];
                sequences.Add((input, positions));
                length = sequences.Count == 1 ? ids.Length : length;
                continue;
            }

            double[] pooled = new double[input.Dimension];
            foreach (int id in ids)
                pooled = [.. pooled.Zip(Row(input, id), (a, b) => a + b)];
            if (input is { MultiHot: true, Pooling: PoolingKind.Mean } && ids.Length > 0)
                pooled = [.. pooled.Select(v => v / ids.Length)];
            (_grec.Text.Contains(input.Name) ? text : _grec.Current.Contains(input.Name) ? current : deep).AddRange(pooled);
        }

        if (sequences.Count > 0)
            heads.Add(Sequence(sequences, length));
        double[] wide = [.. batch.Dense.Slice(row * _layout.DenseWidth, _layout.DenseWidth).ToArray().Select(v => (double)v)];
        if (_grec.Text.Contains("numbers"))
        {
            text.AddRange(wide);
            wide = [];
        }

        int deepWidth = deep.Count == 0 ? 0 : wide.Length == 0 ? _grec.Width : _grec.Width / 2;
        double[] context = [.. deep.Count == 0 ? [] : Linear([.. deep], "context.deep", deepWidth), .. wide.Length == 0 ? [] : Linear(wide, "context.wide", _grec.Width - deepWidth)];
        if (context.Length > 0)
            heads.Add([.. context.Select(Activate)]);
        if (text.Count > 0)
            heads.Add(Linear([.. text], "text", _grec.Width));
        if (current.Count > 0)
            heads.Add(_grec.CurrentLayer ? Linear([.. current], "current", _grec.Width) : [.. current]);
        return [.. heads];
    }

    private bool Padded => _grec.Padding == SequencePadding.FirstRow;

    private double[] Sequence(List<(SparseInput Input, double[] Positions)> sequences, int length)
    {
        IReadOnlyList<IReadOnlyList<string>> factors = _grec.Sequence.Count > 0 ? _grec.Sequence : [.. sequences.Select(s => (string[])[s.Input.Name])];
        double[,] x = Matrix([.. Enumerable.Range(0, sequences[0].Input.Positions).Select(j => factors
            .Select(names => names.SelectMany(name =>
            {
                (SparseInput input, double[] positions) = sequences.First(s => s.Input.Name == name);
                return positions[(j * input.Dimension)..((j + 1) * input.Dimension)];
            }).ToArray())
            .Aggregate((a, b) => [.. a.Zip(b, (u, v) => u * v)]))]);
        if (x.GetLength(1) != _grec.Width)
            x = AttentionReference.Linear(x, _parameters["sequence.widen.weight"], null, _grec.Width);
        for (int i = 0; i < _grec.Blocks; i++)
        {
            double[,] y = Block(x, $"sequence.blocks.{i}", _grec.Heads, _grec.HeadWidth ?? _grec.Width / _grec.Heads, length);
            for (int r = 0; r < y.GetLength(0); r++)
            {
                for (int c = 0; c < y.GetLength(1); c++)
                    y[r, c] += x[r, c];
            }

            x = y;
        }

        double[] mean = new double[_grec.Width], maximum = new double[_grec.Width];
        int pooledPositions = Padded ? x.GetLength(0) : length;
        for (int c = 0; c < _grec.Width && pooledPositions > 0; c++)
        {
            double[] column = [.. Enumerable.Range(0, pooledPositions).Select(j => x[j, c])];
            mean[c] = column.Average();
            double[] weights = [.. column.Select(v => Math.Exp(10 * (v - column.Max())))];
            maximum[c] = _grec.Pooling == SequencePooling.MeanHardMax ? column.Max() : column.Zip(weights, (v, w) => v * w).Sum() / weights.Sum();
        }

        double[] pooled = _grec.Pooling == SequencePooling.Mean ? mean : [.. mean, .. maximum];
        return Linear(Linear(pooled, "sequence.output.layers.0", _grec.Width), "sequence.output.layers.1", _grec.Width);
    }

    private double[,] Block(double[,] x, string name, int heads, int headWidth, int length)
    {
        int rows = x.GetLength(0), width = x.GetLength(1), hidden = _grec.FeedForward ?? 4 * _grec.Width;
        double[] gain = _parameters[$"{name}.norm.weight"];
        double[,] u = new double[rows, width];
        for (int r = 0; r < rows; r++)
        {
            double[] row = Vector(x, r);
            double mean = row.Average(), deviation = Math.Sqrt(row.Average(v => (v - mean) * (v - mean)) + 1e-5);
            for (int c = 0; c < width; c++)
                u[r, c] = (row[c] - mean) / deviation * gain[c];
        }

        int queryWidth = heads * headWidth;
        double[,] all = AttentionReference.Linear(u, _parameters[$"{name}.input.weight"], null, queryWidth + (2 * headWidth) + (2 * hidden));
        double[,] q = AttentionReference.Rotate(AttentionReference.Columns(all, 0, queryWidth), heads, rows);
        double[,] k = AttentionReference.Rotate(AttentionReference.Columns(all, queryWidth, headWidth), 1, rows);
        double[,] v = AttentionReference.Columns(all, queryWidth + headWidth, headWidth);
        double[,] attended = AttentionReference.Forward(q, k, v, rows, rows, heads, 1, 1 / Math.Sqrt(headWidth), causal: false, [length]);
        double[,] product = new double[rows, hidden];
        int first = queryWidth + (2 * headWidth);
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < hidden; c++)
            {
                double b = all[r, first + hidden + c];
                product[r, c] = all[r, first + c] * b / (1 + Math.Exp(-b));
            }
        }

        double[,] y = AttentionReference.Linear(attended, _parameters[$"{name}.attention.weight"], null, width);
        double[,] gated = AttentionReference.Linear(product, _parameters[$"{name}.gated.weight"], null, width);
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < width; c++)
                y[r, c] += gated[r, c];
        }

        return y;
    }

    private double[][] Sentence(double[][] shared, int row, int task, bool counted)
    {
        bool withTask = _grec.Routing != RoutingLevel.Token;
        double[] taskToken = withTask ? _parameters["task_tokens.weight"][(task * _grec.Width)..((task + 1) * _grec.Width)] : [];
        double[,] x = Matrix(withTask ? [.. shared, taskToken] : shared);
        int tokens = x.GetLength(0), width = _grec.Width;
        double[,] f = Block(x, "fusion", 1, width, tokens);
        double[] concatenated = [.. f.Cast<double>()];
        double[] scale = _parameters["moe.norm.weight"];
        double[][] y = new double[tokens][];
        int[] taken = new int[_experts];
        for (int i = 0; i < tokens; i++)
        {
            double[] token = Vector(f, i);
            double root = Math.Sqrt(token.Average(v => v * v) + 1e-6);
            double[] u = [.. token.Select((v, c) => v / root * scale[c])];
            double[] decision = _grec.Routing switch
            {
                RoutingLevel.Task => taskToken,
                RoutingLevel.Sentence => [.. concatenated.Select((v, c) => v * _parameters["sentence_tasks.weight"][(task * tokens * width) + c])],
                RoutingLevel.TaskSentencePooled => [.. Enumerable.Range(0, width).Select(c => Enumerable.Range(0, tokens).Average(j => f[j, c])), .. taskToken],
                _ => u,
            };
            y[i] = token;
            Kept[row, task, i] = [];
            foreach ((int expert, double weight) in Route(decision, counted))
            {
                if (taken[expert]++ >= (_grec.TokenCapacity ?? int.MaxValue))
                {
                    if (_grec.Overflow == CapacityOverflow.Pass)
                        y[i] = [.. y[i].Zip(u, (a, b) => a + (weight * b))];
                    continue;
                }

                Kept[row, task, i].Add(expert);
                y[i] = [.. y[i].Zip(Expert(u, expert), (a, b) => a + (weight * b))];
            }
        }

        return y;
    }

    private List<(int Expert, double Weight)> Route(double[] decision, bool counted)
    {
        double[] logits = Linear(decision, "gate", _experts);
        double log = LogSum(logits);
        double[] p = [.. logits.Select(z => Math.Exp(z - log))];
        int[] chosen = [.. Enumerable.Range(0, _experts).OrderByDescending(e => p[e]).ThenBy(e => e).Take(_architecture.Gate.TopK!.Value)];
        double total = _architecture.Gate.Renormalize ? chosen.Sum(e => p[e]) : 1;
        if (counted)
        {
            _routed++;
            _zSum += log * log;
            for (int e = 0; e < _experts; e++)
                _probabilitySums[e] += p[e];
            foreach (int e in chosen)
                Counts[e]++;
        }

        return [.. chosen.Select(e => (e, p[e] / total))];
    }

    private double[] Expert(double[] u, int expert)
    {
        double[] x = u;
        int[] widths = [.. _architecture.Experts!.Layers, _grec.Width];
        for (int i = 0; i < widths.Length; i++)
        {
            int size = widths[i] * x.Length;
            double[] weight = _parameters[$"experts.layers.{i}.weight"][(expert * size)..((expert + 1) * size)];
            x = Vector(AttentionReference.Linear(Matrix([x]), weight, null, widths[i]), 0);
            if (i < widths.Length - 1)
                x = [.. x.Select(Activate)];
        }

        return x;
    }

    private double[] Row(SparseInput input, int id) => _parameters[$"embeddings.{input.Table}.weight"][(id * input.Dimension)..((id + 1) * input.Dimension)];

    private static unsafe int[] Ids(Batch batch, int feature, int row) => batch.OffsetsPointer(feature) == null
        ? [batch.Ids(feature)[row]]
        : batch.Ids(feature)[batch.OffsetsPointer(feature)[row]..batch.OffsetsPointer(feature)[row + 1]].ToArray();
}
