using CudaMoE.Description;

namespace CudaMoE.Export;

/// <summary>Linear layers with activation: one network, or several of one shape side by side.</summary>
internal sealed class LayerGraph(ExportContext context)
{
    private readonly OnnxGraph _graph = context.Graph;

    /// <summary>Layers of one network, [rows, inputs] to [rows, last width].</summary>
    /// <param name="x">The input.</param>
    /// <param name="name">Prefix of the parameters' names.</param>
    /// <param name="inputs">Width of the input.</param>
    /// <param name="widths">Widths of the layers; may be empty.</param>
    /// <param name="activateLast">Whether the last layer has the activation too.</param>
    public string Network(string x, string name, long inputs, IReadOnlyList<int> widths, bool activateLast = true)
    {
        for (int i = 0; i < widths.Count; i++)
        {
            string layer = $"{name}.layers.{i}";
            x = _graph.Add(
                "Gemm",
                [x, _graph.Tensor(context.Weights.Tensor($"{layer}.weight", widths[i], inputs)), _graph.Tensor(context.Weights.Tensor($"{layer}.bias", widths[i]))],
                ("transB", 1));
            if (activateLast || i < widths.Count - 1)
                x = Activate(x);
            inputs = widths[i];
        }

        return x;
    }

    /// <summary>Networks that all read [rows, inputs]: their first layers are one product. Gives [rows, groups, last width].</summary>
    public string Group(string x, string name, int groups, long inputs, IReadOnlyList<int> widths)
    {
        int n = widths[0];
        string layer = $"{name}.layers.0";
        string product = _graph.Add(
            "Gemm",
            [
                x,
                _graph.Tensor(context.Weights.Tensor($"{layer}.weight", Shape(groups, n, inputs), [(long)groups * n, inputs])),
                _graph.Tensor(context.Weights.Tensor($"{layer}.bias", Shape(groups, n), [(long)groups * n])),
            ],
            ("transB", 1));
        string y = Reshape(Activate(product), 0, groups, n);
        return widths.Count == 1 ? y : RowsFirst(Further(GroupsFirst(y), name, groups, widths, first: 1, n));
    }

    /// <summary>Networks that read a part each of [rows, groups, inputs]. Gives [rows, groups, last width].</summary>
    public string GroupOfParts(string x, string name, int groups, long inputs, IReadOnlyList<int> widths) =>
        RowsFirst(Further(GroupsFirst(x), name, groups, widths, first: 0, inputs));

    public string Reshape(string x, params long[] shape) => _graph.Add("Reshape", [x, _graph.Integers(shape)]);

    /// <summary>[rows, groups, width] to [groups, rows, width], as batched products want it.</summary>
    public string GroupsFirst(string x) => _graph.Add("Transpose", [x], ("perm", new long[] { 1, 0, 2 }));

    /// <summary>The way back of <see cref="GroupsFirst"/>.</summary>
    public string RowsFirst(string x) => GroupsFirst(x);

    private string Further(string x, string name, int groups, IReadOnlyList<int> widths, int first, long inputs)
    {
        for (int i = first; i < widths.Count; i++)
        {
            int n = widths[i];
            string layer = $"{name}.layers.{i}";
            string weight = _graph.Tensor(context.Weights.Transposed($"{layer}.weight", Shape(groups, n, inputs), groups, n, (int)inputs));
            string bias = _graph.Tensor(context.Weights.Tensor($"{layer}.bias", Shape(groups, n), [groups, 1, n]));
            x = Activate(_graph.Add("Add", [_graph.Add("MatMul", [x, weight]), bias]));
            inputs = n;
        }

        return x;
    }

    private string Activate(string x)
    {
        switch (context.Architecture.Activation)
        {
            case ActivationKind.Relu:
                return _graph.Add("Relu", [x]);
            case ActivationKind.LeakyRelu:
                return _graph.Add("LeakyRelu", [x], ("alpha", context.Architecture.ActivationSlope));
            case ActivationKind.Gelu:
                // x * 0.5 * (1 + erf(x / sqrt(2))), in the order that run times know as GELU.
                string erf = _graph.Add("Erf", [_graph.Add("Div", [x, _graph.Numbers([float.Sqrt(2)])])]);
                return _graph.Add("Mul", [_graph.Add("Mul", [x, _graph.Add("Add", [erf, _graph.Numbers([1])])]), _graph.Numbers([0.5f])]);
            case ActivationKind.Silu:
                return _graph.Add("Mul", [x, _graph.Add("Sigmoid", [x])]);
            case ActivationKind.Sigmoid:
                return _graph.Add("Sigmoid", [x]);
            case ActivationKind.Tanh:
                return _graph.Add("Tanh", [x]);
            default:
                return x;
        }
    }

    /// <summary>The extents that a checkpoint has for networks side by side: one network alone has no extent of its own.</summary>
    private static long[] Shape(int groups, params long[] rest) => groups == 1 ? rest : [groups, .. rest];
}
