using static CudaMoE.Description.DescriptionValidator;

namespace CudaMoE.Description;

/// <summary>The rules of features.</summary>
internal static class FeatureRules
{
    private static readonly FeatureDescription Default = new() { Name = "", Type = default };

    public static void Check(ModelDescription description)
    {
        if (description.Features.Count == 0)
            throw Error("features", $"is empty; a model needs at least one feature");
        CheckUnique([.. description.Features.Select(feature => feature.Name)], "features", "name");
        for (int i = 0; i < description.Features.Count; i++)
            CheckFeature(description.Features[i], $"features[{i}]");
        CheckTables(description.Features);
        CheckLeaks(description);
    }

    /// <summary>Whether the feature's values are looked up in a table.</summary>
    public static bool IsEmbedded(FeatureDescription feature) => IsCategory(feature) || IsQuantile(feature);

    private static bool IsCategory(FeatureDescription feature) => feature.Type is FeatureType.Categorical or FeatureType.MultiHot;

    private static bool IsQuantile(FeatureDescription feature) => feature is { Type: FeatureType.Dense, Transform: DenseTransform.Quantile };

    private static void CheckFeature(FeatureDescription feature, string path)
    {
        CheckEmbedding(feature, path);
        bool separated = feature.Type is FeatureType.MultiHot or FeatureType.Vector;
        if (feature.ValueSeparator.Length != 1)
            throw Error(path + ".value_separator", $"is \"{feature.ValueSeparator}\"; it must be one character");
        Only(separated, feature.ValueSeparator == Default.ValueSeparator, "value_separator", "a multi_hot or vector feature");
        Only(feature.Type == FeatureType.MultiHot, feature.Pooling == Default.Pooling, "pooling", "a multi_hot feature");
        Only(feature.Type == FeatureType.MultiHot, feature.MaxLength is null, "max_length", "a multi_hot feature");
        Only(feature.Type == FeatureType.Dense, feature.Transform == Default.Transform, "transform", "a dense feature");
        Only(feature.Type == FeatureType.Vector, feature.Size is null, "size", "a vector feature");
        if (feature.Type == FeatureType.Vector && feature.Size is null)
            throw Error(path + ".size", $"is missing; a vector feature needs the number of its values");

        void Only(bool applies, bool isDefault, string key, string owner) => CheckApplies(path, applies, isDefault, key, owner);
    }

    private static void CheckEmbedding(FeatureDescription feature, string path)
    {
        const string category = "a categorical or multi_hot feature";
        bool embedded = IsEmbedded(feature);
        CheckApplies(path, embedded, feature.Dimension is null, "dimension", "a categorical, multi_hot or quantile-bucketed feature");
        if (embedded && feature.Dimension is null)
            throw Error(path + ".dimension", $"is missing; feature \"{feature.Name}\" is embedded and needs the width of its embedding");
        CheckApplies(path, IsCategory(feature), feature.Encoding == Default.Encoding, "encoding", category);
        CheckApplies(path, IsCategory(feature), feature.Table is null, "table", category);
        CheckApplies(path, embedded, feature.Buckets is null, "buckets", "a categorical, multi_hot or quantile-bucketed feature");
        bool needsBuckets = IsQuantile(feature) || (embedded && feature.Encoding != CategoryEncoding.Vocabulary);
        if (needsBuckets && feature.Buckets is null)
            throw Error(path + ".buckets", $"is missing; hash, identity and quantile features need the number of rows or buckets");
        CheckApplies(
            path, IsCategory(feature) && feature.Encoding == CategoryEncoding.Vocabulary, feature.MinCount == Default.MinCount, "min_count",
            "a feature with encoding vocabulary");
    }

    private static void CheckApplies(string path, bool applies, bool isDefault, string key, string owner)
    {
        if (!applies && !isDefault)
            throw Error($"{path}.{key}", $"has no effect here; only {owner} has it; remove it");
    }

    private static void CheckTables(IReadOnlyList<FeatureDescription> features)
    {
        Dictionary<string, int> owners = new(StringComparer.Ordinal);
        for (int i = 0; i < features.Count; i++)
        {
            FeatureDescription feature = features[i];
            string table = feature.Table ?? feature.Name;
            if (!IsEmbedded(feature) || owners.TryAdd(table, i))
                continue;
            FeatureDescription owner = features[owners[table]];
            string ownerPath = $"features[{owners[table]}]";
            Same("dimension", feature.Dimension, owner.Dimension);
            Same("encoding", feature.Encoding, owner.Encoding);
            Same("buckets", feature.Buckets, owner.Buckets);
            Same("min_count", feature.MinCount, owner.MinCount);
            if (IsQuantile(feature) || IsQuantile(owner))
                throw Error($"features[{i}].table", $"is \"{table}\", which a quantile feature has for itself; choose another name");

            void Same<T>(string key, T value, T other)
            {
                if (!Equals(value, other))
                {
                    throw Error(
                        $"features[{i}].{key}",
                        $"is {Shown(value)}, but {ownerPath}, which shares table \"{table}\", has {Shown(other)}; shared tables need the same");
                }
            }
        }

        static string Shown(object? value) => value?.ToString()?.ToLowerInvariant() ?? "none";
    }

    private static void CheckLeaks(ModelDescription description)
    {
        Dictionary<string, string> labels = new(StringComparer.Ordinal);
        foreach (TaskDescription task in description.Tasks)
            labels.TryAdd(task.Column ?? task.Name, task.Name);
        for (int i = 0; i < description.Features.Count; i++)
        {
            FeatureDescription feature = description.Features[i];
            string column = feature.Column ?? feature.Name;
            if (labels.TryGetValue(column, out string? task))
            {
                string key = feature.Column is null ? "name" : "column";
                throw Error($"features[{i}].{key}", $"is \"{column}\", the label of task \"{task}\"; a feature must not hold an answer");
            }
        }
    }
}
