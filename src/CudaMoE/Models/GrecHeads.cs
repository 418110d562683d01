using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>Which columns of the feature row go into which token of a grec model: sequence, context, text, current item, in that order; kinds without features have no token.</summary>
internal sealed class GrecHeads(LayerContext context, SlotSums sums, InputBlock input, ModelDescription description, BatchLayout layout)
{
    private readonly GrecDescription _grec = description.Architecture.Grec!;

    public void AddTo(List<GrecHead> heads)
    {
        if (Sequence() is { } sequence)
            heads.Add(sequence);
        FeatureColumns? deep = Columns("context.deep", i => IsContext(layout.Sparse[i]));
        FeatureColumns? wide = Wide();
        if (deep != null || wide != null)
            heads.Add(new GrecContextHead(context, deep, wide, _grec.Width, description.Architecture.Activation));
        if (Columns("text", i => _grec.Text.Contains(layout.Sparse[i].Name)) is { } text)
            heads.Add(new GrecLinearHead(context, "text", text, _grec.Width));
        if (Columns("current", i => _grec.Current.Contains(layout.Sparse[i].Name)) is { } current)
            heads.Add(new GrecLinearHead(context, "current", current, _grec.Width));
    }

    // Features have names; a table without one holds numbers that a probe wants gradients of.
    private static bool IsDescribed(SparseInput sparse) => sparse.Name.Length > 0;

    private bool IsContext(SparseInput sparse) =>
        IsDescribed(sparse) && sparse.Positions == 0 && !_grec.Text.Contains(sparse.Name) && !_grec.Current.Contains(sparse.Name);

    private unsafe GrecSequenceHead? Sequence()
    {
        int[] inputs = [.. Enumerable.Range(0, layout.Sparse.Count).Where(i => layout.Sparse[i].Positions > 0)];
        if (inputs.Length == 0)
            return null;
        FeatureColumns[] columns = [.. inputs.Select(i => Columns($"sequence.{layout.Sparse[i].Name}", j => j == i)!)];
        EmbeddingLayer embedding = input.Embedding;
        return new(context, sums, _grec, columns, layout.Sparse[inputs[0]].Positions, () => (nint)embedding.Lengths(inputs[0]));
    }

    private FeatureColumns? Columns(string name, Predicate<int> belongs)
    {
        List<(long, long)> columns = [];
        for (int i = 0; i < layout.Sparse.Count; i++)
        {
            if (belongs(i))
                columns.Add((input.Embedding.Column(i), layout.Sparse[i].Width));
        }

        return columns.Count == 0 ? null : new(context, sums, name, input.Output, columns);
    }

    private FeatureColumns? Wide()
    {
        long first = layout.Sparse.Where(IsDescribed).Sum(s => s.Width);
        long width = input.Output.Columns - first;
        return width == 0 ? null : new(context, sums, "context.wide", input.Output, [(first, width)]);
    }
}
