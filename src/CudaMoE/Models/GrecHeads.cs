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
        FeatureColumns? wide = Numbers("context.wide", text: false);
        if (deep != null || wide != null)
            heads.Add(new GrecContextHead(context, deep, wide, _grec.Width, description.Architecture.Activation));
        if (Text() is { } text)
            heads.Add(new GrecLinearHead(context, "text", text, _grec.Width));
        if (Columns("current", i => _grec.Current.Contains(layout.Sparse[i].Name)) is { } current)
            heads.Add(_grec.CurrentLayer ? new GrecLinearHead(context, "current", current, _grec.Width) : new GrecEmbeddedHead(current));
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
        EmbeddingLayer embedding = input.Embedding;
        IReadOnlyList<IReadOnlyList<int>> factors = _grec.Sequence.Count == 0
            ? [.. inputs.Select(i => (int[])[i])]
            : [.. _grec.Sequence.Select(names => (int[])[.. names.Select(name => inputs.First(i => layout.Sparse[i].Name == name))])];
        int positions = layout.Sparse[inputs[0]].Positions;
        LayerContext tokens = context.Times(positions);
        SequenceFactor[] sequences =
        [
            .. factors.Select((parts, f) => new SequenceFactor(tokens, sums, $"sequence.factors.{f}", positions, [.. parts.Select(i => Columns($"sequence.{layout.Sparse[i].Name}", j => j == i)!)])),
        ];
        return new(context, sums, _grec, sequences, positions, () => (nint)embedding.Lengths(inputs[0]));
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

    /// <summary>Multi-hot features, then vectors.</summary>
    private FeatureColumns? Text()
    {
        List<(long, long)> columns = [.. Enumerable.Range(0, layout.Sparse.Count).Where(i => _grec.Text.Contains(layout.Sparse[i].Name)).Select(i => (input.Embedding.Column(i), (long)layout.Sparse[i].Width))];
        columns.AddRange(NumberColumns(text: true));
        return columns.Count == 0 ? null : new(context, sums, "text", input.Output, columns);
    }

    private FeatureColumns? Numbers(string name, bool text)
    {
        List<(long, long)> columns = NumberColumns(text);
        return columns.Count == 0 ? null : new(context, sums, name, input.Output, columns);
    }

    /// <summary>Columns of the features without a table that are, or are not, text. What the description does not name is not.</summary>
    private List<(long Column, long Width)> NumberColumns(bool text)
    {
        long column = layout.Sparse.Where(IsDescribed).Sum(s => s.Width);
        List<(long, long)> columns = [];
        foreach (FeatureDescription feature in description.Features)
        {
            long width = feature switch
            {
                { Type: FeatureType.Vector } => feature.Size!.Value,
                { Type: FeatureType.Dense, Transform: not DenseTransform.Quantile } => 1,
                _ => 0,
            };
            if (width > 0 && _grec.Text.Contains(feature.Name) == text)
                columns.Add((column, width));
            column += width;
        }

        return columns;
    }
}
