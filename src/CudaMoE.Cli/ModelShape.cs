using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Cli;

/// <summary>What a model is built from beside its description: the inputs' sizes and the number of logits of each task.</summary>
internal sealed record ModelShape(ModelDescription Description, BatchLayout Layout, IReadOnlyList<int> Outputs)
{
    /// <summary>The shape that a checkpoint's encoders say.</summary>
    public static ModelShape Of(ModelDescription description, FittedEncoders encoders) =>
        new(description, encoders.Layout, [.. encoders.Tasks.Select(t => t.Outputs)]);

    /// <summary>The shape of a model whose data is not read.</summary>
    /// <param name="description">The model.</param>
    /// <param name="tableRows">Rows of a feature's embedding table.</param>
    /// <param name="classes">Classes of a multi-class task.</param>
    public static ModelShape Of(ModelDescription description, Func<FeatureDescription, int> tableRows, Func<TaskDescription, int> classes)
    {
        List<SparseInput> sparse = [];
        int denseWidth = 0;
        foreach (FeatureDescription feature in description.Features)
        {
            if (IsEmbedded(feature))
            {
                bool list = IsList(feature);
                int positions = feature.Type == FeatureType.Sequence ? feature.MaxLength!.Value : 0;
                sparse.Add(new(feature.Name, feature.Table ?? feature.Name, tableRows(feature), feature.Dimension!.Value, list, feature.Pooling, list ? feature.MaxLength ?? 16 : 1, positions));
            }
            else
            {
                denseWidth += DenseWidth(feature);
            }
        }

        return new(description, new(sparse, denseWidth, description.Tasks.Count), [.. description.Tasks.Select(t => t.Type == TaskType.Multiclass ? classes(t) : 1)]);
    }

    /// <summary>Whether a feature is looked up in a table.</summary>
    public static bool IsEmbedded(FeatureDescription feature) =>
        feature.Type == FeatureType.Categorical || IsList(feature) || feature is { Type: FeatureType.Dense, Transform: DenseTransform.Quantile };

    /// <summary>Whether a row has any number of embedded values.</summary>
    public static bool IsList(FeatureDescription feature) => feature.Type is FeatureType.MultiHot or FeatureType.Sequence;

    /// <summary>Numbers that a feature without a table adds to the feature row.</summary>
    public static int DenseWidth(FeatureDescription feature) => feature.Type == FeatureType.Vector ? feature.Size!.Value : 1;
}
