using CudaMoE.Description;

namespace CudaMoE.Layers;

/// <summary>Wiring of a <see cref="MacroAggregator"/>.</summary>
internal sealed record MacroAggregatorPlan
{
    /// <summary>Prefix of the parameter names.</summary>
    public required string Name { get; init; }

    /// <summary>Macro nodes, the cold one included.</summary>
    public required int Nodes { get; init; }

    /// <summary>Tables of macro nodes.</summary>
    public required int Tables { get; init; }

    /// <summary>[rows, d] embeddings that the macro nodes are looked at from.</summary>
    public required Slot Target { get; init; }

    /// <summary>[rows, nodes] macro weights; one output for each.</summary>
    public required IReadOnlyList<Slot> Weights { get; init; }

    public required MacroAttention Attention { get; init; }
}

/// <summary>
/// MacGNN's neighbour aggregator (WWW 2024) over macro nodes of one type: for each table t and weights w, agg_t = sum_k w_k alpha_k W_V p_k, with
/// alpha = softmax over k of (W_Q p_k) . (W_K q) / sqrt(2 d), or 1 in the degenerate mode. Macro nodes are the same for all samples, so their
/// values and queries are one small product a batch, scores and sums are products of the batch with them, and nothing is gathered.
/// </summary>
internal sealed class MacroAggregator
{
    private readonly MacroAggregatorPlan _plan;
    private readonly Slot _nodes;
    private readonly Slot _nodesGradient;
    private readonly Linear _value;
    private readonly Linear? _query;
    private readonly Linear? _key;
    private readonly SlotSums _sums;
    private readonly Slot _values;
    private readonly Attention[] _attention = [];
    private readonly SharedProduct[] _products = [];
    private readonly Gradients[] _gradients = [];

    public MacroAggregator(LayerContext context, MacroAggregatorPlan plan)
    {
        _plan = plan;
        _sums = new(context);
        int d = (int)plan.Target.Columns;
        long width = (long)plan.Tables * 2 * d;
        ParameterBlock table = context.Parameters.Add($"{plan.Name}.nodes.weight", ParameterKind.Weight, plan.Nodes, plan.Tables, d);
        unsafe
        {
            _nodes = Slot.Of(() => (nint)table.Value, (long)plan.Tables * d);
            _nodesGradient = Slot.Of(() => (nint)table.Gradient, (long)plan.Tables * d);
        }

        LayerContext nodes = context.WithRows(plan.Nodes);
        _values = nodes.Reserve($"{plan.Name}.values", width);
        _value = OfNodes("value", _values);
        Slot[] gradients = [];
        if (plan.Attention == MacroAttention.OverNeighbours)
        {
            Slot queries = nodes.Reserve($"{plan.Name}.queries", width);
            Slot keys = context.Reserve($"{plan.Name}.keys", width);
            _query = OfNodes("query", queries);
            _key = new(context, new()
            {
                Groups = plan.Tables,
                N = 2 * d,
                K = d,
                Input = GroupInput.Shared,
                X = plan.Target,
                Y = keys,
                Weight = context.Parameters.Add($"{plan.Name}.key.weight", ParameterKind.Weight, plan.Tables, 2 * d, d),
            });
            _attention =
            [
                .. plan.Weights.Select((weights, i) => new Attention(context, new()
                {
                    Name = $"{plan.Name}.attention.{i}",
                    Q = keys,
                    K = queries,
                    V = _values,
                    Heads = plan.Tables,
                    KeyHeads = plan.Tables,
                    HeadWidth = 2 * d,
                    Queries = 1,
                    Keys = plan.Nodes,
                    SharedKeys = true,
                    KeyWeights = weights,
                })),
            ];
            Outputs = [.. _attention.Select(a => a.Output)];
            gradients = context.Training ? [.. _attention.Select(a => a.OutputGradient)] : [];
        }
        else
        {
            _products = [.. plan.Weights.Select((weights, i) => new SharedProduct(context, $"{plan.Name}.product.{i}", weights, _values))];
            Outputs = [.. _products.Select(p => p.Output)];
            gradients = context.Training ? [.. _products.Select(p => p.OutputGradient)] : [];
        }

        OutputGradients = gradients;
        if (context.Training)
        {
            _gradients =
            [
                .. plan.Weights.Select((_, i) => new Gradients(
                    context.Reserve($"{plan.Name}.keys.gradient.{i}", width), nodes.Reserve($"{plan.Name}.queries.gradient.{i}", width), nodes.Reserve($"{plan.Name}.values.gradient.{i}", width))),
            ];
        }

        Linear OfNodes(string what, Slot y) => new(nodes, new()
        {
            Groups = plan.Tables,
            N = 2 * d,
            K = d,
            Input = plan.Tables == 1 ? GroupInput.Shared : GroupInput.Strided,
            X = _nodes,
            Y = y,
            Weight = context.Parameters.Add($"{plan.Name}.{what}.weight", ParameterKind.Weight, plan.Tables, 2 * d, d),
        });
    }

    /// <summary>[rows, d] embeddings that the macro nodes are looked at from.</summary>
    public Slot Target => _plan.Target;

    /// <summary>For each weights [rows, tables * 2 d].</summary>
    public IReadOnlyList<Slot> Outputs { get; }

    /// <summary>Where their gradients are to be written.</summary>
    public IReadOnlyList<Slot> OutputGradients { get; }

    public void Pack()
    {
        _value.Pack();
        _query?.Pack();
        _key?.Pack();
    }

    public unsafe void Forward(long rows)
    {
        _value.Forward(_plan.Nodes);
        _query?.Forward(_plan.Nodes);
        _key?.Forward(rows);
        foreach (Attention attention in _attention)
            attention.Forward(rows, keyCounts: null);
        foreach (SharedProduct product in _products)
            product.Forward(rows);
    }

    /// <summary>From <see cref="OutputGradients"/>, which the backward keeps.</summary>
    /// <param name="rows">Rows of the batch.</param>
    /// <param name="weights">Whether the parameters' gradients are wanted.</param>
    /// <param name="target">Where the gradient of the target embeddings is added; null = nobody wants it.</param>
    public void Backward(long rows, bool weights, Slot? target)
    {
        Gradients sum = _gradients[0];
        if (_key == null)
        {
            if (!weights)
                return;
            for (int i = 0; i < _products.Length; i++)
                _products[i].BackwardShared(rows, sum.Values, accumulate: i > 0);
        }
        else
        {
            for (int i = 0; i < _attention.Length; i++)
            {
                _attention[i].Backward(rows, _gradients[i].Keys, _gradients[i].Queries, _gradients[i].Values);
                if (i == 0)
                    continue;
                _sums.Add(rows, _gradients[i].Keys, sum.Keys);
                _sums.Add(_plan.Nodes, _gradients[i].Queries, sum.Queries);
                _sums.Add(_plan.Nodes, _gradients[i].Values, sum.Values);
            }

            if (target != null)
                _key.BackwardInput(rows, sum.Keys, new(target, Accumulate: true, Below: null, ActivationKind.None));
            if (!weights)
                return;
            _key.BackwardWeights(rows, sum.Keys);
            _query!.BackwardWeights(_plan.Nodes, sum.Queries);
        }

        _value.BackwardWeights(_plan.Nodes, sum.Values);
        _value.BackwardInput(_plan.Nodes, sum.Values, new(_nodesGradient, Accumulate: false, Below: null, ActivationKind.None));
        _query?.BackwardInput(_plan.Nodes, sum.Queries, new(_nodesGradient, Accumulate: true, Below: null, ActivationKind.None));
    }

    /// <summary>Gradients of what the attention reads.</summary>
    private sealed record Gradients(Slot Keys, Slot Queries, Slot Values);
}
