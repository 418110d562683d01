using System.Reflection;
using CudaMoE.Description;

namespace CudaMoE.Tests.Description;

/// <summary>Descriptions that tests start from.</summary>
internal static class Samples
{
    /// <summary>A model file that uses every part of the format.</summary>
    public const string FullJson = """
        {
          "$schema": "model.schema.json",
          // Comments are allowed,
          "name": "full",
          "data": {
            "format": { "separator": "\t", "header": false, "quote": null, "trim": false, "missing": ["?", "NA"],
                        "columns": ["age", "job", "tags", "vector", "income", "spend", "kind", "w", "clicked", "user", "wage"] },
            "train": ["train.tsv.gz"],
            "test": ["test.tsv"],
            "validation_split": { "from": "test", "fraction": 0.5, "seed": 18446744073709551615 },
            "group_column": "user",
            "cache": "cache",
          },
          "features": [
            { "name": "age", "type": "dense", "transform": "min_max" },
            { "name": "wage", "type": "dense", "transform": "quantile", "buckets": 20, "dimension": 4 },
            { "name": "job", "type": "categorical", "dimension": 8, "min_count": 2, "table": "jobs" },
            { "name": "job2", "column": "job", "type": "categorical", "dimension": 8, "min_count": 2, "table": "jobs" },
            { "name": "tags", "type": "multi_hot", "dimension": 16, "encoding": "hash", "buckets": 1000, "pooling": "sum", "max_length": 5, "value_separator": ";" },
            { "name": "vector", "type": "vector", "size": 3, "value_separator": " " },
          ],
          "tasks": [
            { "name": "income", "type": "binary", "positive": ["yes"], "weight": 2, "weight_column": "w" },
            { "name": "spend", "type": "regression", "transform": "log", "mask": { "column": "clicked", "in": ["1"] } },
            { "name": "kind", "type": "multiclass", "classes": ["a", "b", "c"] },
          ],
          "architecture": {
            "type": "mmoe",
            "projection": 64,
            "layer_norm": true,
            "experts": { "count": 8, "layers": [64, 32] },
            "gate": { "top_k": 2, "score": "softmax_topk", "renormalize": true, "capacity_factor": 1.25, "order": "priority", "balance_loss": 0.01, "z_loss": 1e-3 },
            "tower": [16],
            "activation": "leaky_relu",
            "activation_slope": 0.2,
            "precision": "bf16"
          },
          "training": {
            "batch_size": 256,
            "epochs": 3,
            "optimizer": { "type": "sgd", "learning_rate": 0.01, "momentum": 0.9 },
            "embedding_optimizer": { "type": "rowwise_adam" },
            "schedule": { "type": "cosine", "warmup_steps": 100 },
            "clip_norm": 1,
            "balancer": { "type": "multi_balance", "place": "trunk_input", "floor": 0.05, "gram_scale": "trace", "heads": "scaled" },
            "early_stopping": { "metric": "income/gauc", "patience": 3 },
            "checkpoint_steps": 1000
          }
        }
        """;

    /// <summary>The smallest model file that is valid, with room for more keys in each part.</summary>
    public static string Small(
        string feature = "\"name\": \"age\", \"type\": \"dense\"",
        string task = "\"name\": \"income\", \"type\": \"binary\"",
        string architecture = "\"type\": \"shared_bottom\"",
        string training = "",
        string data = "",
        string name = "small") => $$"""
        {
          "name": "{{name}}",
          "features": [
            { {{feature}} }
          ],
          "tasks": [
            { {{task}} }
          ],
          "architecture": {
            {{architecture}}
          },
          "training": {
            {{training}}
          },
          "data": {{(data.Length == 0 ? "null" : $"{{ {data} }}")}}
        }
        """;

    /// <summary>A valid description.</summary>
    public static ModelDescription Model { get; } = new()
    {
        Name = "model",
        Features = [new() { Name = "age", Type = FeatureType.Dense }, new() { Name = "job", Type = FeatureType.Categorical, Dimension = 4 }],
        Tasks = [new() { Name = "income", Type = TaskType.Binary }, new() { Name = "spend", Type = TaskType.Regression }],
        Architecture = new() { Type = ModelType.Mmoe, Experts = new() { Count = 4, Layers = [8] } },
    };

    /// <summary>The repository's folder.</summary>
    public static string Repository { get; } = FindRepository();

    private static string FindRepository()
    {
        string? folder = Path.GetDirectoryName(Assembly.GetExecutingAssembly().Location);
        while (folder is not null && !File.Exists(Path.Combine(folder, "CudaMoE.sln")))
            folder = Path.GetDirectoryName(folder);
        return folder ?? throw new InvalidOperationException("CudaMoE.sln is in no folder above the tests");
    }
}
