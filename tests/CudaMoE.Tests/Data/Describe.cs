using CudaMoE.Description;

namespace CudaMoE.Tests.Data;

/// <summary>Short descriptions around what a data test is about.</summary>
internal static class Describe
{
    public static readonly FeatureDescription X = new() { Name = "x", Type = FeatureType.Dense, Transform = DenseTransform.None };

    public static readonly TaskDescription Y = new() { Name = "y", Type = TaskType.Binary };

    public static ModelDescription Model(IReadOnlyList<FeatureDescription> features, IReadOnlyList<TaskDescription> tasks, DataDescription? data = null) => new()
    {
        Name = "test",
        Data = data ?? new() { Train = ["train.csv"] },
        Features = features,
        Tasks = tasks,
        Architecture = new() { Type = ModelType.SharedBottom, Bottom = [4] },
    };

    public static FeatureDescription Category(string name, CategoryEncoding encoding = CategoryEncoding.Vocabulary, int? buckets = null) =>
        new() { Name = name, Type = FeatureType.Categorical, Dimension = 4, Encoding = encoding, Buckets = buckets };
}
