using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;

namespace CudaMoE.Export;

/// <summary>Gates: weights [rows, gates, experts] of a mixture. Sparse gates give 0 to the experts that they do not choose, and all experts are computed.</summary>
internal sealed class GateGraph(ExportContext context)
{
    // As in the engine: the softmax of such a logit is exactly 0.
    private const float Invisible = -1e30f;
    private readonly OnnxGraph _graph = context.Graph;
    private readonly LayerGraph _layers = new(context);

    /// <summary>The gates of an mmoe model.</summary>
    public string Mixture(string x, long inputs, int gates, int experts)
    {
        GateDescription gate = context.Architecture.Gate;
        bool noisy = gate.Score == ScoreMode.Noisy;
        int rows = gates * experts;
        string weight = noisy ? Clean("gate.weight", gates, experts, inputs) : _graph.Tensor(context.Weights.Tensor("gate.weight", rows, inputs));
        string? bias = !gate.Bias ? null : noisy ? Clean("gate.bias", gates, experts, null) : _graph.Tensor(context.Weights.Tensor("gate.bias", rows));
        string product = _graph.Add("Gemm", bias is null ? [x, weight] : [x, weight, bias], ("transB", 1));
        string logits = _layers.Reshape(product, 0, gates, experts);
        return gate.TopK is { } k ? Chosen(logits, gate, k) : Dense(logits, gate);
    }

    /// <summary>The gates of a level of the fusion family, of which each sees some experts.</summary>
    /// <param name="x">[rows, inputs], which all gates read; or with <paramref name="ownInputs"/> [rows, gates, inputs].</param>
    /// <param name="name">Prefix of the parameters' names.</param>
    /// <param name="plan">The level.</param>
    /// <param name="inputs">Width of what a gate reads.</param>
    /// <param name="ownInputs">Whether each gate reads a part of its own.</param>
    public string Level(string x, string name, FusionLevelPlan plan, long inputs, bool ownInputs)
    {
        (int gates, int experts) = (plan.Outputs, plan.Experts);
        (float[] weights, float[]? biases) = Full(name, plan, inputs);
        if (!ownInputs)
        {
            string weight = _graph.Numbers(weights, (long)gates * experts, inputs);
            string product = _graph.Add(
                "Gemm", biases is null ? [x, weight] : [x, weight, _graph.Numbers(biases, (long)gates * experts)], ("transB", 1));
            return Softmax(_layers.Reshape(product, 0, gates, experts));
        }

        return OwnInputs(x, weights, biases, gates, experts, inputs);
    }

    /// <summary>Dense gates that read a part each of [rows, gates, inputs] and see all experts.</summary>
    public string OfParts(string x, int gates, int experts, long inputs)
    {
        float[] weights = context.Weights.Values("gate.weight", (long)gates * experts, inputs);
        float[]? biases = context.Architecture.Gate.Bias ? context.Weights.Values("gate.bias", (long)gates * experts) : null;
        return OwnInputs(x, weights, biases, gates, experts, inputs);
    }

    private string OwnInputs(string x, float[] weights, float[]? biases, int gates, int experts, long inputs)
    {
        string transposed = _graph.Numbers(ExportWeights.Transpose(weights, gates, experts, (int)inputs), gates, inputs, experts);
        string logits = _graph.Add("MatMul", [_layers.GroupsFirst(x), transposed]);
        if (biases is not null)
            logits = _graph.Add("Add", [logits, _graph.Numbers(biases, gates, 1, experts)]);
        return _layers.RowsFirst(Softmax(logits));
    }

    private string Dense(string logits, GateDescription gate)
    {
        if (gate.Score != ScoreMode.Sigmoid)
            return Softmax(logits);
        string p = _graph.Add("Sigmoid", [logits]);
        return gate.Renormalize ? Renormalized(p) : p;
    }

    /// <summary>The k largest in descending order, the lower index first among equals (as the operator has it and as the engine does), put back to their places.</summary>
    private string Chosen(string logits, GateDescription gate, int k)
    {
        bool sigmoid = gate.Score == ScoreMode.Sigmoid;
        string scores = sigmoid ? _graph.Add("Sigmoid", [logits]) : logits;
        string[] largest = _graph.AddMany("TopK", 2, [scores, _graph.Integers(k)], ("axis", -1), ("largest", 1), ("sorted", 1));
        string weights = (gate.Score, gate.Renormalize) switch
        {
            (ScoreMode.Sigmoid, false) => largest[0],
            (ScoreMode.Sigmoid, true) => Renormalized(largest[0]),
            (ScoreMode.SoftmaxTopk, false) => _graph.Add("GatherElements", [Softmax(logits), largest[1]], ("axis", 2)),
            // Softmax over all, renormalised over the chosen, is the softmax over the chosen.
            _ => Softmax(largest[0]),
        };
        string zeros = _graph.Add("ConstantOfShape", [_graph.Add("Shape", [logits])]);
        return _graph.Add("ScatterElements", [zeros, largest[1], weights], ("axis", 2));
    }

    private string Softmax(string x) => _graph.Add("Softmax", [x], ("axis", -1));

    private string Renormalized(string p) => _graph.Add("Div", [p, _graph.Add("ReduceSum", [p, _graph.Integers(-1)], ("keepdims", 1))]);

    /// <summary>The rows of a noisy gate's parameter that make logits without noise, which is how it is evaluated: for each gate the first half.</summary>
    private string Clean(string name, int gates, int experts, long? inputs)
    {
        long width = inputs ?? 1;
        float[] both = context.Weights.Values(name, inputs is null ? [gates * 2L * experts] : [gates * 2L * experts, width]);
        int part = (int)(experts * width);
        float[] clean = [.. Enumerable.Range(0, gates).SelectMany(g => both.Skip(g * 2 * part).Take(part))];
        return _graph.Numbers(clean, inputs is null ? [(long)gates * experts] : [(long)gates * experts, width]);
    }

    /// <summary>Weights [gates, experts, inputs] and biases [gates, experts] of all experts, from parameters that hold the visible ones only.</summary>
    private (float[] Weights, float[]? Biases) Full(string name, FusionLevelPlan plan, long inputs)
    {
        (int gates, int experts) = (plan.Outputs, plan.Experts);
        IReadOnlyList<IReadOnlyList<ExpertRange>> visible = plan.Visible ?? [.. Enumerable.Range(0, gates).Select(_ => new[] { new ExpertRange(0, experts) })];
        long rows = visible.Sum(ranges => ranges.Sum(range => (long)range.Count));
        float[] given = context.Weights.Values($"{name}.weight", rows, inputs);
        float[]? givenBias = plan.GateBias ? context.Weights.Values($"{name}.bias", rows) : null;
        float[] weights = new float[gates * experts * inputs];
        float[]? biases = givenBias is null && plan.Visible is null ? null : new float[gates * experts];
        if (biases is not null)
            Array.Fill(biases, Invisible);
        int source = 0;
        for (int gate = 0; gate < gates; gate++)
        {
            foreach (ExpertRange range in visible[gate])
            {
                int target = (gate * experts) + range.First;
                given.AsSpan(source * (int)inputs, range.Count * (int)inputs).CopyTo(weights.AsSpan(target * (int)inputs));
                if (givenBias is not null)
                    givenBias.AsSpan(source, range.Count).CopyTo(biases.AsSpan(target));
                else if (biases is not null)
                    biases.AsSpan(target, range.Count).Clear();
                source += range.Count;
            }
        }

        return (weights, biases);
    }
}
