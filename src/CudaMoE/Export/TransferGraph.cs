using CudaMoE.Description;
using CudaMoE.Models;

namespace CudaMoE.Export;

/// <summary>
/// The chain of AITM (Xi et al., KDD 2021): each task but the first reads an attention over its own representation and what the task before it hands on, as
/// docs/models/aitm.md has it.
/// </summary>
internal sealed class TransferGraph(ExportContext context)
{
    private readonly OnnxGraph _graph = context.Graph;
    private readonly LayerGraph _layers = new(context);

    /// <summary>From the representations of the tasks to what their towers read, each [rows, width].</summary>
    public string[] Build(string[] representations, long width)
    {
        string[] read = [.. representations];
        int[] chain = TransferTrunk.Chain(context.Description);
        for (int i = 1; i < chain.Length; i++)
        {
            string name = $"transfer.{context.Description.Tasks[chain[i]].Name}";
            _graph.Scope = name;
            string handedOn = _layers.Network(read[chain[i - 1]], $"{name}.info", width, [(int)width]);
            read[chain[i]] = Attention(representations[chain[i]], handedOn, $"{name}.attention.weight", width);
        }

        return read;
    }

    /// <summary>The sum of both items' values, weighted by the softmax of each item's product of query and key, over the root of the width.</summary>
    private string Attention(string own, string handedOn, string name, long width)
    {
        // [rows, 2, width]
        string items = _graph.Add("Concat", [_layers.Reshape(own, 0, 1, width), _layers.Reshape(handedOn, 0, 1, width)], ("axis", 1));
        float[] weights = ExportWeights.Transpose(context.Weights.Values(name, 3, width, width), 3, (int)width, (int)width);
        string[] projected = [.. weights.Chunk((int)(width * width)).Select(part => _graph.Add("MatMul", [items, _graph.Numbers(part, width, width)]))];
        string products = _graph.Add("ReduceSum", [_graph.Add("Mul", [projected[0], projected[1]]), _graph.Integers(2)], ("keepdims", 1));
        string scores = _graph.Add("Mul", [_layers.Reshape(products, 0, 1, 2), _graph.Numbers([1 / float.Sqrt(width)])]);
        string mixed = _graph.Add("MatMul", [_graph.Add("Softmax", [scores], ("axis", -1)), projected[2]]);
        return _layers.Reshape(mixed, 0, width);
    }
}
