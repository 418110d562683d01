using System.Globalization;
using CudaMoE.Checkpoints;
using CudaMoE.Description;

namespace CudaMoE.Cli.Importing;

/// <summary>
/// Names and shapes of the released code of GRec (intel-analytics/ipex-llm, python/friesian/example/GRec, class GRec). What the model file must say so that the same weights give the
/// same outputs is checked first; docs/import.md has it, and the table of names.
/// </summary>
internal sealed class GrecLayout : ImportLayout
{
    private const string Context = "context_head";
    private const double NormEpsilon = 1e-5;
    private static readonly string[] ItemTables = ["item_embedding.weight", "item_meta_embedding.weight", "item_pre_embedding.weight"];
    private static readonly string[] SecondNames = ["page_embedding.weight", .. ItemTables];
    private readonly ArchitectureDescription _architecture;
    private readonly Dictionary<string, string> _tables = new(StringComparer.Ordinal);
    private int _wide;

    /// <param name="description">The model that the tensors are for.</param>
    /// <exception cref="UsageException">The released code has no such model.</exception>
    public GrecLayout(ModelDescription description)
    {
        _architecture = description.Architecture;
        if (_architecture.Grec is not { } grec)
            throw new UsageException($"architecture.type is {ParameterFile.SnakeCase(_architecture.Type)}; the layout grec is that of a model of type grec");
        CheckOptions(description, grec);
        CheckFeatures(description, grec);
    }

    public override string? Table(string table) => _tables.GetValueOrDefault(table);

    public override int? Classes(SafetensorsHeader file, string prefix) =>
        file.TryGet($"{prefix}tasks_dense2.weight", out TensorEntry? entry) && entry!.Shape is [>= 1 and <= int.MaxValue, _] ? (int)entry.Shape[0] : null;

    public override bool IsIgnored(string tensor) =>
        tensor.StartsWith("nlp_encoder.", StringComparison.Ordinal) || tensor.EndsWith(".rotary_emb.inv_freq", StringComparison.Ordinal)
        || tensor.EndsWith(".norm.beta", StringComparison.Ordinal) || tensor == $"{Context}.wide_batch_norm.num_batches_tracked";

    public override string? SameAs(string tensor)
    {
        if (tensor.StartsWith($"{Context}.shared_embed.", StringComparison.Ordinal))
            return ItemTables[0];
        return SecondNames.FirstOrDefault(name => tensor == $"sequence_transformer.{name}");
    }

    public override IReadOnlyList<ImportPiece>? Pieces(ImportTarget target)
    {
        string[] name = target.Name.Split('.');
        string last = name[^1];
        IReadOnlyList<long> shape = target.Shape;
        return name switch
        {
            ["embeddings", .. var table, "weight"] => Table(string.Join('.', table)) is { } tensor ? Whole(tensor) : null,
            ["sequence", "blocks", var i, .. var rest] => Block($"sequence_transformer.ptransformer.{i}.fn", rest, shape),
            ["sequence", "output", "layers", "0", _] => Whole($"sequence_transformer.seq_dense.{last}"),
            ["sequence", "output", "layers", "1", _] => Whole($"seq_dense.{last}"),
            ["context", "deep", _] => Whole($"{Context}.deep_dense.{last}"),
            ["context", "wide", "weight"] => [WideWeight(shape)],
            ["context", "wide", "bias"] => [WideBias(shape)],
            ["text", _] => Whole($"nlp_dense.{last}"),
            ["task_tokens", "weight"] => Whole("task_embedding.0.weight"),
            ["fusion", .. var rest] => Block("att_pooling", rest, shape),
            ["moe", "norm", "weight"] => Whole("moe.layer_norm.weight"),
            ["gate", _] => Whole($"moe.mlp.router.classifier.{last}"),
            ["experts", "layers", var layer, "weight"] => Experts(layer == "0" ? "wi" : "wo", shape),
            ["towers", .., "layers", "0", _] => Whole($"tasks_dense1.{last}"),
            ["towers", .., "layers", "1", "weight"] => Whole("tasks_dense2.weight"),
            ["towers", .., "layers", "1", "bias"] => [ImportPiece.Zeros(shape)],
            _ => null,
        };

        ImportPiece[] Whole(string tensor) => [ImportPiece.Whole(tensor, shape)];
    }

    private static ImportPiece[]? Block(string block, string[] name, IReadOnlyList<long> shape)
    {
        string? tensor = name switch
        {
            ["norm", "weight"] => "norm.gamma",
            ["input", "weight"] => "fused_attn_ff_proj.weight",
            ["attention", "weight"] => "attn_out.weight",
            ["gated", "weight"] => "ff_out.1.weight",
            _ => null,
        };
        return tensor is null ? null : [ImportPiece.Whole($"{block}.{tensor}", shape)];
    }

    // One expert's parameter has no extent of experts.
    private ImportPiece[] Experts(string part, IReadOnlyList<long> shape) =>
        [.. Enumerable.Range(0, _architecture.Experts!.Count!.Value).Select(e => ImportPiece.Whole($"moe.mlp.experts.expert_{e}.{part}.weight", [.. shape.TakeLast(2)]))];

    /// <summary>
    /// Batch normalisation of the numbers, as it is outside of training, in the layer behind it: s = scale / sqrt(variance + epsilon), W' = W diag(s), b' = b + W (shift - mean s).
    /// One number alone is not normalised.
    /// </summary>
    private static ImportPiece WideWeight(IReadOnlyList<long> shape)
    {
        int inputs = (int)shape[1];
        if (inputs == 1)
            return ImportPiece.Whole($"{Context}.wide_dense.weight", shape);
        ForeignTensor[] sources = [new($"{Context}.wide_dense.weight", shape), Norm("weight", inputs), Norm("running_var", inputs)];
        return new(shape[0] * shape[1], sources, values => [.. values[0].Select((weight, i) => (float)(weight * Scale(values[1][i % inputs], values[2][i % inputs])))]);
    }

    private ImportPiece WideBias(IReadOnlyList<long> shape)
    {
        int inputs = _wide;
        if (inputs == 1)
            return ImportPiece.Whole($"{Context}.wide_dense.bias", shape);
        ForeignTensor[] sources =
        [
            new($"{Context}.wide_dense.bias", shape), new($"{Context}.wide_dense.weight", [shape[0], inputs]),
            Norm("weight", inputs), Norm("running_var", inputs), Norm("bias", inputs), Norm("running_mean", inputs),
        ];
        return new(shape[0], sources, values => [.. values[0].Select((bias, row) => (float)(bias + Enumerable.Range(0, inputs).Sum(i =>
            values[1][(row * inputs) + i] * (values[4][i] - (values[5][i] * Scale(values[2][i], values[3][i]))))))]);
    }

    private static ForeignTensor Norm(string name, int inputs) => new($"{Context}.wide_batch_norm.{name}", [inputs]);

    private static double Scale(float scale, float variance) => scale / Math.Sqrt(variance + NormEpsilon);

    private static void CheckOptions(ModelDescription description, GrecDescription grec)
    {
        ArchitectureDescription architecture = description.Architecture;
        Require(architecture.Activation == ActivationKind.LeakyRelu && architecture.ActivationSlope == 0.2f, "activation", "leaky_relu with activation_slope 0.2");
        Require(architecture.Gate is { TopK: 1, Renormalize: false, Bias: true, Score: ScoreMode.SoftmaxTopk, CapacityFactor: null }, "gate", "top_k 1 with a bias, without renormalize, capacity_factor or another score");
        Require(architecture.Transfer is null, "transfer", "not given");
        Require(architecture.Experts!.Layers.Count == 1, "experts.layers", "one hidden layer");
        Require(architecture.Tower.Count == 1, "tower", "one hidden layer");
        Require(grec.Routing == RoutingLevel.TaskSentence, "grec.routing", "task_sentence");
        Require(grec.Pooling == SequencePooling.MeanHardMax, "grec.pooling", "mean_hard_max");
        Require(grec.Padding == SequencePadding.FirstRow, "grec.padding", "first_row");
        Require(!grec.CurrentLayer, "grec.current_layer", "false");
        Require(grec.TokenCapacity is null || grec.Overflow == CapacityOverflow.Pass, "grec.overflow", "pass where token_capacity is given");
        int wrong = description.Tasks.ToList().FindIndex(task => task.Type != TaskType.Multiclass);
        if (wrong >= 0)
            throw new UsageException($"tasks[{wrong}].type is {ParameterFile.SnakeCase(description.Tasks[wrong].Type)}; the tasks of the layout grec are multiclass over the items");
    }

    private static void Require(bool holds, string key, string wanted)
    {
        if (!holds)
            throw new UsageException($"architecture.{key} is not what the released code of GRec has; for the layout grec it must be {wanted}");
    }

    private void CheckFeatures(ModelDescription description, GrecDescription grec)
    {
        Dictionary<string, FeatureDescription> features = description.Features.ToDictionary(feature => feature.Name, StringComparer.Ordinal);
        Require(
            grec.Sequence.Count == 2 && grec.Sequence[0].Count == 1 && grec.Sequence[1].Count == 3,
            "grec.sequence",
            "[[pages], [items, their metas, their pretrained vectors]], names of sequence features");
        _tables.Add(TableOf(grec.Sequence[0][0]), SecondNames[0]);
        for (int i = 0; i < ItemTables.Length; i++)
        {
            if (!_tables.TryAdd(TableOf(grec.Sequence[1][i]), ItemTables[i]))
                throw new UsageException($"architecture.grec.sequence has two features of table \"{TableOf(grec.Sequence[1][i])}\"; in the layout grec each of the four has its own");
        }

        // The token has the embeddings in the order of the features.
        string[] current = [.. description.Features.Where(feature => grec.Current.Contains(feature.Name)).Select(feature => TableOf(feature.Name))];
        Require(
            current.SequenceEqual(grec.Sequence[1].Select(TableOf)),
            "grec.current",
            "three features with the tables of the items' sequences, in the same order");
        Require(grec.Text.Count == 1 && features[grec.Text[0]].Type == FeatureType.Vector, "grec.text", "one vector feature, the pooler's output of the sentence encoder");

        foreach (FeatureDescription feature in description.Features)
        {
            if (grec.Text.Contains(feature.Name) || grec.Current.Contains(feature.Name) || feature.Type == FeatureType.Sequence)
                continue;
            if (!ModelShape.IsEmbedded(feature))
                _wide += ModelShape.DenseWidth(feature);
            else if (!_tables.ContainsKey(feature.Table ?? feature.Name))
                _tables.Add(feature.Table ?? feature.Name, string.Create(CultureInfo.InvariantCulture, $"{Context}.deep_embedding.{_tables.Count - SecondNames.Length}.weight"));
        }

        string TableOf(string name) => features[name].Table ?? name;
    }
}
