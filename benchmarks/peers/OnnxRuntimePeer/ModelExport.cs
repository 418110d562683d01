using CudaMoE.Benchmarking;
using CudaMoE.Export;
using CudaMoE.Layers;
using CudaMoE.Models;

namespace OnnxRuntimePeer;

/// <summary>
/// Writes a reference configuration with the engine's parameters as an ONNX graph: ids [rows, features] (int32, rows of the joined table) and dense
/// [rows, n] to logits [rows, tasks]. The experts of the first layer are one product, the gates another; each tower is a chain of Gemm nodes,
/// which ONNX Runtime fuses with their ReLU and packs when it loads. Sparse mixtures run all experts with zero weights for those not chosen, as an
/// exported model does.
/// </summary>
internal sealed class ModelExport
{
    private readonly BenchmarkConfig _config;
    private readonly MultiTaskModel _model;
    private readonly OnnxGraph _graph;

    private ModelExport(BenchmarkConfig config, MultiTaskModel model)
    {
        _config = config;
        _model = model;
        _graph = new(config.Name);
    }

    public static void Write(BenchmarkConfig config, MultiTaskModel model, string path)
    {
        ModelExport export = new(config, model);
        export.Build();
        OnnxFile.Save(export._graph, path, external: false);
    }

    private void Build()
    {
        SparseConfig sparse = _config.Sparse;
        _graph.Input("ids", OnnxType.Int32, OnnxDimension.Batch, sparse.Features);
        _graph.Input("dense", OnnxType.Float, OnnxDimension.Batch, _config.Dense);
        long embedded = (long)sparse.Features * sparse.Dim;
        string rows = _graph.Add("Gather", [_graph.Numbers(Table(), (long)sparse.Features * sparse.Rows, sparse.Dim), "ids"], ("axis", 0));
        string x = _graph.Add("Concat", [Reshape(rows, 0, embedded), "dense"], ("axis", 1));
        x = Relu(Gemm(x, "projection.layers.0", _config.InputDim!.Value, embedded + _config.Dense));
        string[] towers = _config.Model == "moe_topk" ? [.. Enumerable.Repeat(Sparse(x), _config.Tasks)] : Dense(x);
        string logits = _graph.Add("Concat", [.. towers.Select((input, task) => Tower(input, $"towers.task{task}"))], ("axis", 1));
        _graph.Output(logits, "logits", OnnxType.Float, OnnxDimension.Batch, _config.Tasks);
    }

    /// <summary>The mixture of each task, [rows, width].</summary>
    private string[] Dense(string x)
    {
        int count = _config.Experts!.Count!.Value;
        string gates = Reshape(Gemm(x, "gate", (long)_config.Tasks * count, _config.InputDim!.Value), 0, _config.Tasks, count);
        string mixed = _graph.Add("MatMul", [_graph.Add("Softmax", [gates], ("axis", -1)), Experts(x)]);
        string[] parts = _graph.AddMany("Split", _config.Tasks, [mixed], ("axis", 1));
        return [.. parts.Select(part => Reshape(part, 0, _config.Experts.Levels[0][^1]))];
    }

    /// <summary>The mixture that all tasks share, [rows, width].</summary>
    private string Sparse(string x)
    {
        int count = _config.Experts!.Count!.Value;
        string logits = Gemm(x, "gate", count, _config.InputDim!.Value);
        string[] chosen = _graph.AddMany("TopK", 2, [logits, _graph.Integers(_config.Experts.K!.Value)], ("axis", 1));
        string zeros = _graph.Add("Mul", [logits, _graph.Numbers([0])]);
        string weights = _graph.Add("ScatterElements", [zeros, chosen[1], _graph.Add("Softmax", [chosen[0]], ("axis", -1))], ("axis", 1));
        return Reshape(_graph.Add("MatMul", [Reshape(weights, 0, 1, count), Experts(x)]), 0, _config.Experts.Levels[0][^1]);
    }

    /// <summary>Outputs of all experts, [rows, experts, width].</summary>
    private string Experts(string x)
    {
        int count = _config.Experts!.Count!.Value;
        IReadOnlyList<int> widths = _config.Experts.Levels[0];
        string y = Reshape(Relu(Gemm(x, "experts.layers.0", (long)count * widths[0], _config.InputDim!.Value)), 0, count, widths[0]);
        for (int layer = 1; layer < widths.Count; layer++)
        {
            string name = $"experts.layers.{layer}";
            float[] weights = ExportWeights.Transpose(Values($"{name}.weight"), count, widths[layer], widths[layer - 1]);
            string grouped = _graph.Add("Transpose", [y], ("perm", new long[] { 1, 0, 2 }));
            string product = _graph.Add("MatMul", [grouped, _graph.Numbers(weights, count, widths[layer - 1], widths[layer])]);
            string sum = _graph.Add("Add", [product, _graph.Numbers(Values($"{name}.bias"), count, 1, widths[layer])]);
            y = _graph.Add("Transpose", [Relu(sum)], ("perm", new long[] { 1, 0, 2 }));
        }

        return y;
    }

    private string Tower(string x, string name)
    {
        long width = _config.Experts!.Levels[0][^1];
        int[] widths = [.. _config.Tower ?? [], 1];
        for (int layer = 0; layer < widths.Length; layer++)
        {
            x = Gemm(x, $"{name}.layers.{layer}", widths[layer], width);
            if (layer < widths.Length - 1)
                x = Relu(x);
            width = widths[layer];
        }

        return x;
    }

    private string Gemm(string x, string name, long outputs, long inputs) => _graph.Add(
        "Gemm",
        [x, _graph.Numbers(Values($"{name}.weight"), outputs, inputs), _graph.Numbers(Values($"{name}.bias"), outputs)],
        ("transB", 1));

    private string Relu(string x) => _graph.Add("Relu", [x]);

    private string Reshape(string x, params long[] shape) => _graph.Add("Reshape", [x, _graph.Integers(shape)]);

    /// <summary>The tables of all features one below the other.</summary>
    private float[] Table() => [.. _model.Parameters.Where(p => p.Kind == ParameterKind.Embedding).SelectMany(p => Values(p.Name))];

    private float[] Values(string name)
    {
        Parameter parameter = _model.Parameters.Single(p => p.Name == name);
        float[] values = new float[parameter.Count];
        _model.Stream.CopyToHost<float>(parameter.Value, values);
        return values;
    }
}
