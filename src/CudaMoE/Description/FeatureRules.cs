using static CudaMoE.Description.DescriptionValidator;

namespace CudaMoE.Description;

/// <summary>The rules of features.</summary>
internal static class FeatureRules
{
    /// <summary>Most positions of a sequence: each is a look-up of its own.</summary>
    private const int MaxSequence = 4096;

    /// <summary>The places that a row can take in a cache.</summary>
    private const int LeastCacheRows = 8;

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

    /// <summary>Whether the feature's values are parted by <c>value_separator</c>.</summary>
    public static bool IsSeparated(FeatureDescription feature) => IsList(feature) || feature.Type == FeatureType.Vector;

    /// <summary>Whether a row has any number of embedded values.</summary>
    public static bool IsList(FeatureDescription feature) => feature.Type is FeatureType.MultiHot or FeatureType.Sequence;

    /// <summary>Whether the feature's values are texts with a row each.</summary>
    public static bool IsCategory(FeatureDescription feature) => feature.Type == FeatureType.Categorical || IsList(feature);

    private static bool IsQuantile(FeatureDescription feature) => feature is { Type: FeatureType.Dense, Transform: DenseTransform.Quantile };

    private static void CheckFeature(FeatureDescription feature, string path)
    {
        CheckEmbedding(feature, path);
        if (feature.ValueSeparator.Length != 1)
            throw Error(path + ".value_separator", $"is \"{feature.ValueSeparator}\"; it must be one character");
        Only(IsSeparated(feature), feature.ValueSeparator == Default.ValueSeparator, "value_separator", "a multi_hot, sequence or vector feature");
        Only(feature.Type == FeatureType.MultiHot, feature.Pooling == Default.Pooling, "pooling", "a multi_hot feature");
        Only(IsList(feature), feature.MaxLength is null, "max_length", "a multi_hot or sequence feature");
        Only(feature.Type == FeatureType.Sequence, feature.Keep == Default.Keep, "keep", "a sequence feature");
        if (feature.Type == FeatureType.Sequence && feature.MaxLength is null)
            throw Error(path + ".max_length", $"is missing; a sequence feature needs the number of its positions");
        if (feature.Type == FeatureType.Sequence && feature.MaxLength > MaxSequence)
            throw Error(path + ".max_length", $"is {feature.MaxLength}; a sequence has at most {MaxSequence} positions; keep fewer values");
        Only(feature.Type == FeatureType.Dense, feature.Transform == Default.Transform, "transform", "a dense feature");
        Only(feature.Type == FeatureType.Vector, feature.Size is null, "size", "a vector feature");
        if (feature.Type == FeatureType.Vector && feature.Size is null)
            throw Error(path + ".size", $"is missing; a vector feature needs the number of its values");

        void Only(bool applies, bool isDefault, string key, string owner) => CheckApplies(path, applies, isDefault, key, owner);
    }

    private static void CheckEmbedding(FeatureDescription feature, string path)
    {
        const string category = "a categorical, multi_hot or sequence feature";
        bool embedded = IsEmbedded(feature);
        CheckApplies(path, embedded, feature.Dimension is null, "dimension", "a categorical, multi_hot, sequence or quantile-bucketed feature");
        if (embedded && feature.Dimension is null)
            throw Error(path + ".dimension", $"is missing; feature \"{feature.Name}\" is embedded and needs the width of its embedding");
        CheckApplies(path, IsCategory(feature), feature.Encoding == Default.Encoding, "encoding", category);
        CheckApplies(path, IsCategory(feature), feature.Table is null, "table", category);
        CheckApplies(path, embedded, feature.Storage is null, "storage", "a categorical, multi_hot, sequence or quantile-bucketed feature");
        CheckStorage(feature.Storage, path + ".storage");
        CheckApplies(path, embedded, feature.Buckets is null, "buckets", "a categorical, multi_hot, sequence or quantile-bucketed feature");
        bool needsBuckets = IsQuantile(feature) || (embedded && feature.Encoding != CategoryEncoding.Vocabulary);
        if (needsBuckets && feature.Buckets is null)
            throw Error(path + ".buckets", $"is missing; hash, identity and quantile features need the number of rows or buckets");
        CheckApplies(
            path, IsCategory(feature) && feature.Encoding == CategoryEncoding.Vocabulary, feature.MinCount == Default.MinCount, "min_count",
            "a feature with encoding vocabulary");
    }

    private static void CheckStorage(TableStorage? storage, string path)
    {
        if (storage?.CacheRows is not { } rows)
            return;
        if (storage.Place != StoragePlace.Host)
            throw Error(path + ".cache_rows", $"is {rows}, but the table is in the device's memory; set place to host, or remove cache_rows");
        if (rows < LeastCacheRows)
            throw Error(path + ".cache_rows", $"is {rows}; it must be at least {LeastCacheRows}; remove it for a table without a cache");
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
            Same("storage", feature.Storage, owner.Storage);
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
