using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Models;

/// <summary>
/// The models as their equations say, sample by sample, in double precision and without any of the engine's operations: the judge of the engine's
/// outputs, and by finite differences of its gradients.
/// </summary>
internal sealed class ReferenceModel
{
    private readonly ModelDescription _description;
    private readonly BatchLayout _layout;
    private readonly IReadOnlyList<int> _outputs;
    private readonly Dictionary<string, double[]> _parameters;
    private readonly Dictionary<string, IReadOnlyList<long>> _shapes;
    private double[][][]? _handedOn;
    private double[][][]? _foreign;

    public ReferenceModel(MultiTaskModel model)
    {
        _description = model.Description;
        _layout = model.Layout;
        _outputs = model.Outputs;
        _parameters = model.Parameters.ToDictionary(p => p.Name, p => Array.ConvertAll(TestDevices.Read(model, p), v => (double)v));
        _shapes = model.Parameters.ToDictionary(p => p.Name, p => p.Shape);
    }

    public IReadOnlyDictionary<string, double[]> Parameters => _parameters;

    /// <summary>Logits [rows][sum of outputs] of a batch.</summary>
    public double[][] Logits(Batch batch)
    {
        string unit = _description.Architecture.Type == ModelType.Stem ? "shared." : "";
        double[][] features = [.. Enumerable.Range(0, batch.Rows).Select(row => FeatureRow(batch, row, unit))];
        double[][] inputs = [.. features.Select(Input)];
        double[][][] representations = _description.Architecture.Type switch
        {
            ModelType.Mgoe => MacroGraph(batch, features),
            ModelType.Stem => [.. Enumerable.Range(0, batch.Rows).Select(row => Stem(batch, row))],
            _ => Representations(inputs),
        };
        if (_description.Architecture.Transfer is { } transfer)
            representations = [.. representations.Select((q, row) => new TransferReference(transfer, _description.Tasks, _parameters, Activate).Representations(q, _handedOn?[row]))];
        return [.. representations.Select(TowerLogits).Select(Joint)];
    }

    /// <summary>From now on the outputs of a stem model's own experts that other tasks mix are what they are now: the constants that a blocked gradient sees.</summary>
    public void KeepForeignExperts(Batch batch) => _foreign = [.. Enumerable.Range(0, batch.Rows).Select(row => StemExperts(batch, row))];

    /// <summary>From now on what tasks of a chain hand on is made of what their towers read now: the constants that a stopped gradient sees.</summary>
    public void KeepHandedOn(Batch batch)
    {
        double[][] inputs = [.. Enumerable.Range(0, batch.Rows).Select(row => Input(FeatureRow(batch, row)))];
        TransferReference transfer = new(_description.Architecture.Transfer!, _description.Tasks, _parameters, Activate);
        _handedOn = [.. Representations(inputs).Select(q => transfer.Representations(q, constants: null))];
    }

    /// <summary>Probabilities of the tasks, [rows][tasks], all binary.</summary>
    public double[][] Probabilities(Batch batch) => [.. Logits(batch).Select(row => row.Select(Sigmoid).ToArray())];

    /// <summary>The penalty of a chain's order; with <paramref name="others"/> only <paramref name="task"/>'s probability is a variable.</summary>
    public double OrderPenalty(Batch batch, int task = -1, double[][]? others = null)
    {
        if (_description.Architecture.Transfer is not { } transfer)
            return 0;
        int[] chain = TransferReference.Chain(transfer, _description.Tasks);
        double[][] probabilities = Probabilities(batch);
        double sum = 0;
        for (int row = 0; row < batch.Rows; row++)
        {
            for (int i = 1; i < chain.Length; i++)
            {
                if (task < 0 || chain[i] == task || chain[i - 1] == task)
                    sum += Math.Max(Of(row, chain[i]) - Of(row, chain[i - 1]), 0);
            }
        }

        return transfer.Penalty * sum / batch.Rows;

        double Of(int row, int t) => others == null || t == task ? probabilities[row][t] : others[row][t];
    }

    /// <summary>Loss of each task: the weighted mean over its valid rows.</summary>
    public double[] Losses(Batch batch)
    {
        double[][] logits = Logits(batch);
        double[] losses = new double[_outputs.Count];
        int column = 0;
        for (int t = 0; t < _outputs.Count; t++)
        {
            double sum = 0;
            double total = 0;
            for (int row = 0; row < batch.Rows; row++)
            {
                double label = batch.Labels(t)[row];
                double weight = batch.Weights(t)[row];
                if (double.IsNaN(label) || weight <= 0)
                    continue;
                double[] z = logits[row][column..(column + _outputs[t])];
                sum += weight * Loss(_description.Tasks[t].Type, z, label);
                total += weight;
            }

            losses[t] = total > 0 ? sum / total : 0;
            column += _outputs[t];
        }

        return losses;
    }

    /// <summary>Balance and z losses of the batch times their coefficients; the expert counts are taken as constants by the engine and here.</summary>
    public double AuxiliaryLoss(Batch batch, IReadOnlyList<long>? constantCounts = null)
    {
        ArchitectureDescription architecture = _description.Architecture;
        if (architecture.Type != ModelType.Mmoe)
            return 0;
        GateDescription gate = architecture.Gate;
        int gates = gate.Sharing == GateSharing.Shared ? 1 : _outputs.Count;
        int experts = architecture.Experts!.Count!.Value;
        double[][] inputs = [.. Enumerable.Range(0, batch.Rows).Select(row => Input(FeatureRow(batch, row)))];
        double loss = 0;
        for (int g = 0; g < gates; g++)
        {
            double[] probabilitySums = new double[experts];
            double[] counts = new double[experts];
            double z = 0;
            foreach (double[] x in inputs)
            {
                double[] logits = GateLogits(x, g, experts);
                double logSum = LogSumExp(logits);
                z += logSum * logSum;
                double[] p = gate.Score == ScoreMode.Sigmoid ? [.. logits.Select(Sigmoid)] : [.. logits.Select(l => Math.Exp(l - logSum))];
                for (int e = 0; e < experts; e++)
                    probabilitySums[e] += p[e];
                if (gate.TopK is { } k)
                {
                    foreach (int e in Choose(logits, k))
                        counts[e]++;
                }
            }

            loss += gate.ZLoss * z / batch.Rows;
            if (gate.TopK is not { } top)
                continue;
            for (int e = 0; e < experts; e++)
            {
                double count = constantCounts == null ? counts[e] : constantCounts[(g * experts) + e];
                loss += gate.BalanceLoss * experts * (count / (batch.Rows * top)) * (probabilitySums[e] / batch.Rows);
            }
        }

        return loss;
    }

    private static double Loss(TaskType type, double[] z, double label) => type switch
    {
        TaskType.Binary => Math.Max(z[0], 0) - (z[0] * label) + Math.Log(1 + Math.Exp(-Math.Abs(z[0]))),
        TaskType.Regression => (z[0] - label) * (z[0] - label),
        _ => LogSumExp(z) - z[(int)label],
    };

    private static double LogSumExp(double[] z)
    {
        double max = z.Max();
        return max + Math.Log(z.Sum(v => Math.Exp(v - max)));
    }

    private static double Sigmoid(double x) => 1 / (1 + Math.Exp(-x));

    private static int[] Choose(double[] scores, int k) =>
        [.. Enumerable.Range(0, scores.Length).OrderByDescending(e => scores[e]).ThenBy(e => e).Take(k)];

    private double Activate(double x) => _description.Architecture.Activation switch
    {
        ActivationKind.Relu => Math.Max(x, 0),
        ActivationKind.LeakyRelu => x > 0 ? x : x * _description.Architecture.ActivationSlope,
        ActivationKind.Gelu => x * 0.5 * (1 + Erf(x / Math.Sqrt(2))),
        ActivationKind.Silu => x * Sigmoid(x),
        ActivationKind.Sigmoid => Sigmoid(x),
        ActivationKind.Tanh => Math.Tanh(x),
        _ => x,
    };

    // erf by its Taylor series below 3 and its continued fraction above: slow and accurate to 1e-14.
    private static double Erf(double x)
    {
        double a = Math.Abs(x);
        if (a > 6)
            return Math.Sign(x);
        if (a < 3)
        {
            double term = a;
            double sum = a;
            for (int n = 1; Math.Abs(term) > 1e-20; n++)
            {
                term *= -a * a / n;
                sum += term / ((2 * n) + 1);
            }

            return Math.Sign(x) * 2 / Math.Sqrt(Math.PI) * sum;
        }

        double fraction = 0;
        for (int n = 200; n > 0; n--)
            fraction = n / 2.0 / (a + fraction);
        return Math.Sign(x) * (1 - (Math.Exp(-a * a) / Math.Sqrt(Math.PI) / (a + fraction)));
    }

    private double[] FeatureRow(Batch batch, int row, string unit = "")
    {
        List<double> values = [];
        for (int f = 0; f < _layout.Sparse.Count; f++)
        {
            SparseInput input = _layout.Sparse[f];
            double[] table = _parameters[$"embeddings.{unit}{input.Table}.weight"];
            int[] ids = Ids(batch, f, row);
            if (input.Positions > 0)
            {
                for (int position = 0; position < input.Positions; position++)
                {
                    for (int j = 0; j < input.Dimension; j++)
                        values.Add(position < ids.Length ? table[(ids[position] * input.Dimension) + j] : 0);
                }

                continue;
            }

            double[] pooled = new double[input.Dimension];
            foreach (int id in ids)
            {
                for (int j = 0; j < input.Dimension; j++)
                    pooled[j] += table[(id * input.Dimension) + j];
            }

            bool mean = input.MultiHot && input.Pooling == PoolingKind.Mean && ids.Length > 0;
            values.AddRange(pooled.Select(v => mean ? v / ids.Length : v));
        }

        values.AddRange(batch.Dense.Slice(row * _layout.DenseWidth, _layout.DenseWidth).ToArray().Select(v => (double)v));
        return [.. values];
    }

    private static unsafe int[] Ids(Batch batch, int feature, int row)
    {
        if (batch.OffsetsPointer(feature) == null)
            return [batch.Ids(feature)[row]];
        int start = batch.OffsetsPointer(feature)[row];
        return batch.Ids(feature)[start..batch.OffsetsPointer(feature)[row + 1]].ToArray();
    }

    private double[] Input(double[] features)
    {
        double[] x = features;
        if (_description.Architecture.LayerNorm)
        {
            double mean = x.Average();
            double variance = x.Average(v => (v - mean) * (v - mean));
            double[] gamma = _parameters["norm.weight"];
            double[] beta = _parameters["norm.bias"];
            x = [.. x.Select((v, i) => ((v - mean) / Math.Sqrt(variance + 1e-5) * gamma[i]) + beta[i])];
        }

        return _description.Architecture.Projection == null ? x : Layer("projection.layers.0", 0, x, activate: true);
    }

    /// <summary>One linear layer; group g of a merged parameter [groups, out, in].</summary>
    private double[] Layer(string name, int group, double[] x, bool activate)
    {
        IReadOnlyList<long> shape = _shapes[name + ".weight"];
        int n = (int)shape[^2];
        int k = (int)shape[^1];
        double[] weight = _parameters[name + ".weight"];
        double[] bias = _parameters[name + ".bias"];
        double[] y = new double[n];
        for (int i = 0; i < n; i++)
        {
            double sum = bias[(group * n) + i];
            for (int j = 0; j < k; j++)
                sum += x[j] * weight[(((group * n) + i) * k) + j];
            y[i] = activate ? Activate(sum) : sum;
        }

        return y;
    }

    private double[] Mlp(string prefix, int group, int layers, double[] x)
    {
        for (int i = 0; i < layers; i++)
            x = Layer($"{prefix}.layers.{i}", group, x, activate: true);
        return x;
    }

    private double[] GateLogits(double[] x, int gate, int experts)
    {
        double[] weight = _parameters["gate.weight"];
        double[]? bias = _parameters.GetValueOrDefault("gate.bias");
        double[] logits = new double[experts];
        for (int e = 0; e < experts; e++)
        {
            int row = (gate * experts) + e;
            logits[e] = (bias?[row] ?? 0) + x.Select((v, j) => v * weight[(row * x.Length) + j]).Sum();
        }

        return logits;
    }

    /// <summary>[rows][towers][width], towers = 1 when all tasks read the same.</summary>
    private double[][][] Representations(double[][] inputs)
    {
        ArchitectureDescription architecture = _description.Architecture;
        int tasks = _outputs.Count;
        int layers = architecture.Bottom.Count;
        return architecture.Type switch
        {
            ModelType.SharedBottom => [.. inputs.Select(x => new[] { Mlp("bottom", 0, layers, x) })],
            ModelType.SingleTask => [.. inputs.Select(x => Enumerable.Range(0, tasks).Select(t => Mlp($"bottom.{_description.Tasks[t].Name}", 0, layers, x)).ToArray())],
            ModelType.Mmoe => Mixture(inputs),
            _ => Fusion(inputs),
        };
    }

    private double[][][] MacroGraph(Batch batch, double[][] features)
    {
        ArchitectureDescription architecture = _description.Architecture;
        int tasks = _outputs.Count;
        MgoeReference reference = new(architecture, tasks, _parameters, (e, x) => Mlp("experts", e, architecture.Experts!.Layers.Count, x));
        if (architecture.Macro!.Tables == MacroTables.None)
            return [.. features.Select(x => reference.Representations(x, 0, 0, [], []))];
        int user = InputOf(architecture.Macro.User!);
        int item = InputOf(architecture.Macro.Item!);
        return [.. features.Select((x, row) => reference.Representations(x, batch.Ids(user)[row], batch.Ids(item)[row], Embedding(x, user), Embedding(x, item)))];

        int InputOf(string name) => _layout.Sparse.ToList().FindIndex(sparse => sparse.Name == name);

        double[] Embedding(double[] x, int input) => x.Skip((int)_layout.Sparse.Take(input).Sum(sparse => sparse.Width)).Take(_layout.Sparse[input].Dimension).ToArray();
    }

    private double[] StemRow(Batch batch, int row, int unit) => FeatureRow(batch, row, (unit < _outputs.Count ? _description.Tasks[unit].Name : "shared") + ".");

    private double[][] StemExperts(Batch batch, int row)
    {
        ExpertsDescription experts = _description.Architecture.Experts!;
        int own = experts.PerTask ?? 1;
        return
        [
            .. Enumerable.Range(0, (_outputs.Count * own) + experts.Shared!.Value).Select(e =>
                Mlp("experts", e, experts.Layers.Count, StemRow(batch, row, Math.Min(e / own, _outputs.Count)))),
        ];
    }

    private double[][] Stem(Batch batch, int row)
    {
        int tasks = _outputs.Count;
        int own = _description.Architecture.Experts!.PerTask ?? 1;
        double[][] experts = StemExperts(batch, row);
        double[] shared = StemRow(batch, row, tasks);
        double[][] mixtures = new double[tasks][];
        for (int task = 0; task < tasks; task++)
        {
            double[] logits = GateLogits([.. StemRow(batch, row, task).Zip(shared, (a, b) => a + b)], task, experts.Length);
            double sum = LogSumExp(logits);
            mixtures[task] = new double[experts[0].Length];
            for (int e = 0; e < experts.Length; e++)
            {
                bool foreign = e / own != task && e / own < tasks;
                double[] y = foreign && _foreign != null ? _foreign[row][e] : experts[e];
                for (int j = 0; j < y.Length; j++)
                    mixtures[task][j] += Math.Exp(logits[e] - sum) * y[j];
            }
        }

        return mixtures;
    }

    private double[][][] Fusion(double[][] inputs)
    {
        ArchitectureDescription architecture = _description.Architecture;
        ExpertsDescription experts = architecture.Experts!;
        FusionReference fusion = new(architecture, _outputs.Count, _parameters, (level, e, x) =>
            Mlp($"levels.{level}.experts", e, architecture.Type == ModelType.Cgc ? experts.Layers.Count : experts.Levels[level].Count, x));
        return [.. inputs.Select(fusion.Representations)];
    }

    private double[][][] Mixture(double[][] inputs)
    {
        ArchitectureDescription architecture = _description.Architecture;
        GateDescription gate = architecture.Gate;
        int gates = gate.Sharing == GateSharing.Shared ? 1 : _outputs.Count;
        int experts = architecture.Experts!.Count!.Value;
        double[][][] weights = [.. inputs.Select(x => Enumerable.Range(0, gates).Select(g => GateWeights(GateLogits(x, g, experts))).ToArray())];
        bool[][][] placed = Places(weights, gates, experts);
        double[][][] outputs = new double[inputs.Length][][];
        for (int row = 0; row < inputs.Length; row++)
        {
            double[]?[] expertOutputs = new double[experts][];
            outputs[row] = new double[gates][];
            for (int g = 0; g < gates; g++)
            {
                double[] mixed = new double[architecture.Experts.Layers[^1]];
                for (int e = 0; e < experts; e++)
                {
                    if (!placed[row][g][e])
                        continue;
                    double[] y = expertOutputs[e] ??= Mlp("experts", e, architecture.Experts.Layers.Count, inputs[row]);
                    for (int j = 0; j < mixed.Length; j++)
                        mixed[j] += weights[row][g][e] * y[j];
                }

                outputs[row][g] = mixed;
            }
        }

        return outputs;
    }

    /// <summary>Weights of all experts, 0 for those not chosen.</summary>
    private double[] GateWeights(double[] logits)
    {
        GateDescription gate = _description.Architecture.Gate;
        double logSum = LogSumExp(logits);
        double[] p = gate.Score == ScoreMode.Sigmoid ? [.. logits.Select(Sigmoid)] : [.. logits.Select(l => Math.Exp(l - logSum))];
        if (gate.TopK is not { } k)
            return gate.Renormalize ? [.. p.Select(v => v / p.Sum())] : p;
        int[] chosen = Choose(logits, k);
        double chosenLogSum = LogSumExp([.. chosen.Select(e => logits[e])]);
        double sum = chosen.Sum(e => p[e]);
        double[] weights = new double[logits.Length];
        foreach (int e in chosen)
        {
            weights[e] = gate.Score switch
            {
                ScoreMode.TopkSoftmax or ScoreMode.Noisy => Math.Exp(logits[e] - chosenLogSum),
                _ => gate.Renormalize ? p[e] / sum : p[e],
            };
        }

        return weights;
    }

    /// <summary>Which (row, gate, expert) are computed: all non-zero weights, or with a capacity the first ones in the routing order.</summary>
    private bool[][][] Places(double[][][] weights, int gates, int experts)
    {
        GateDescription gate = _description.Architecture.Gate;
        bool[][][] placed = [.. weights.Select(row => row.Select(w => w.Select(v => v != 0 || gate.TopK == null).ToArray()).ToArray())];
        if (gate.TopK is not { } k || gate.CapacityFactor is not { } factor)
            return placed;
        long capacity = Math.Max(1, (long)Math.Ceiling(factor * weights.Length * gates * k / experts));
        List<(int Row, int Gate, int Choice, int Expert, double Weight)> pairs = [];
        for (int row = 0; row < weights.Length; row++)
        {
            for (int g = 0; g < gates; g++)
            {
                int[] chosen = Choose(weights[row][g], k);
                for (int c = 0; c < k; c++)
                    pairs.Add((row, g, c, chosen[c], weights[row][g][chosen[c]]));
            }
        }

        IEnumerable<(int Row, int Gate, int Choice, int Expert, double Weight)> ordered = gate.Order switch
        {
            RoutingOrder.ChoiceMajor => pairs.OrderBy(p => (p.Gate * k) + p.Choice),
            RoutingOrder.Priority => pairs.OrderByDescending(p => p.Weight),
            _ => pairs,
        };
        long[] taken = new long[experts];
        foreach ((int row, int g, _, int expert, _) in ordered)
        {
            if (taken[expert]++ >= capacity)
                placed[row][g][expert] = false;
        }

        return placed;
    }

    // Of a task with a given one: the logit of the product of the probabilities along the chain.
    private double[] Joint(double[] towers)
    {
        IReadOnlyList<TaskDescription> tasks = _description.Tasks;
        if (tasks.All(task => task.Given == null))
            return towers;
        return [.. tasks.Select(task =>
        {
            double probability = 1;
            double own = 0;
            for (TaskDescription? at = task; at != null; at = tasks.FirstOrDefault(other => other.Name == at.Given))
            {
                own = towers[tasks.ToList().IndexOf(at)];
                probability *= Sigmoid(own);
            }

            return task.Given == null ? own : Math.Log(probability / (1 - probability));
        })];
    }

    private double[] TowerLogits(double[][] representation)
    {
        List<double> logits = [];
        int layers = _description.Architecture.Tower.Count;
        for (int t = 0; t < _outputs.Count; t++)
        {
            string prefix = $"towers.{_description.Tasks[t].Name}";
            double[] x = Mlp(prefix, 0, layers, representation[representation.Length == 1 ? 0 : t]);
            logits.AddRange(Layer($"{prefix}.layers.{layers}", 0, x, activate: false));
        }

        return [.. logits];
    }
}
