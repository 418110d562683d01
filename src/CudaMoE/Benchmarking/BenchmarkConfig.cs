using System.Text.Json;
using System.Text.Json.Serialization;
using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Benchmarking;

/// <summary>
/// A reference configuration (<c>benchmarks/configs</c>): a model on synthetic features, with everything that a fair comparison with another
/// engine fixes.
/// </summary>
public sealed record BenchmarkConfig
{
    /// <summary>Name of the configuration.</summary>
    public required string Name { get; init; }

    /// <summary>Seed of the weights.</summary>
    public ulong Seed { get; set; } = 1;

    /// <summary>mmoe, moe_topk or embedding.</summary>
    public required string Model { get; init; }

    /// <summary>Samples of a training batch.</summary>
    public required int Batch { get; init; }

    /// <summary>Binary tasks.</summary>
    public int Tasks { get; init; }

    /// <summary>Dense numbers of a sample.</summary>
    public int Dense { get; init; }

    /// <summary>The embedded features.</summary>
    public required SparseConfig Sparse { get; init; }

    /// <summary>Width of the input projection.</summary>
    public int? InputDim { get; init; }

    /// <summary>Hidden widths of a tower.</summary>
    public IReadOnlyList<int>? Tower { get; init; }

    /// <summary>The experts.</summary>
    public ExpertsConfig? Experts { get; init; }

    /// <summary>The optimisers.</summary>
    public required OptimizersConfig Optimizer { get; init; }

    /// <summary>Reads a configuration.</summary>
    /// <exception cref="DescriptionException">The file is missing or wrong.</exception>
    public static BenchmarkConfig Load(string path)
    {
        try
        {
            BenchmarkConfig config = JsonSerializer.Deserialize(File.ReadAllBytes(path), BenchmarkConfigContext.Default.BenchmarkConfig)
                ?? throw new DescriptionException($"{path}: holds null");
            if (config.Model is not ("mmoe" or "moe_topk" or "embedding"))
                throw new DescriptionException($"{path}: model is \"{config.Model}\"; this version runs mmoe, moe_topk and embedding");
            if (config.Model != "embedding" && (config.Experts is not { Levels.Count: 1, Count: > 0 } || config.Tasks < 1))
                throw new DescriptionException($"{path}: {config.Model} needs tasks, and experts with a count and one level");
            if (config.Optimizer.Sparse.Type != "rowwise_adagrad" || config.Optimizer.Dense is { Type: not "adamw" })
                throw new DescriptionException($"{path}: the optimisers must be adamw (dense) and rowwise_adagrad (sparse)");
            return config;
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new DescriptionException($"{path}: {e.Message}", e);
        }
    }

    /// <summary>The shape of its batches.</summary>
    public BatchLayout Layout() => new(
        [.. Enumerable.Range(0, Sparse.Features).Select(f => new SparseInput($"f{f}", $"f{f}", Sparse.Rows, Sparse.Dim, Sparse.Bag > 1, Pooling, Sparse.Bag))],
        Dense,
        Math.Max(Tasks, 1));

    /// <summary>The model as a description.</summary>
    /// <param name="precision">Type of the products' operands.</param>
    /// <param name="balancer">How task gradients are balanced.</param>
    public ModelDescription Describe(Precision precision, BalancerDescription balancer) => new()
    {
        Name = Name,
        Features =
        [
            .. Enumerable.Range(0, Sparse.Features).Select(f => new FeatureDescription
            {
                Name = $"f{f}",
                Type = Sparse.Bag > 1 ? FeatureType.MultiHot : FeatureType.Categorical,
                Dimension = Sparse.Dim,
                Pooling = Sparse.Bag > 1 ? Pooling : PoolingKind.Mean,
                MaxLength = Sparse.Bag > 1 ? Sparse.Bag : null,
            }),
            .. Dense > 0 ? [new FeatureDescription { Name = "dense", Type = FeatureType.Vector, Size = Dense }] : Array.Empty<FeatureDescription>(),
        ],
        Tasks = [.. Enumerable.Range(0, Math.Max(Tasks, 1)).Select(t => new TaskDescription { Name = $"task{t}", Type = TaskType.Binary })],
        Architecture = new()
        {
            Type = Experts == null ? ModelType.SharedBottom : ModelType.Mmoe,
            Projection = InputDim,
            Experts = Experts == null ? null : new() { Count = Experts.Count!.Value, Layers = Experts.Levels[0] },
            Gate = Model == "moe_topk"
                ? new() { TopK = Experts!.K, Sharing = GateSharing.Shared, Score = ScoreMode.TopkSoftmax, BalanceLoss = 0.01f }
                : new(),
            Tower = Tower ?? [],
            Precision = precision,
        },
        Training = new()
        {
            BatchSize = Batch,
            Seed = Seed,
            Optimizer = Optimizer.Dense == null ? new() : new() { LearningRate = Optimizer.Dense.Lr, WeightDecay = Optimizer.Dense.WeightDecay },
            EmbeddingOptimizer = new() { Type = OptimizerType.RowwiseAdagrad, LearningRate = Optimizer.Sparse.Lr, Epsilon = Optimizer.Sparse.Eps },
            Balancer = balancer,
        },
    };

    /// <summary>Multiplications and additions of the products of one forward pass over <paramref name="rows"/> samples.</summary>
    public double ForwardFlops(long rows)
    {
        if (Experts == null)
            return 0;
        double features = (Sparse.Features * (double)Sparse.Dim) + Dense;
        double input = InputDim ?? features;
        double expert = 0;
        double width = input;
        foreach (int layer in Experts.Levels[0])
        {
            expert += width * layer;
            width = layer;
        }

        double tower = 0;
        double last = width;
        foreach (int layer in Tower ?? [])
        {
            tower += last * layer;
            last = layer;
        }

        tower += last;
        int gates = Model == "moe_topk" ? 1 : Tasks;
        double computed = Model == "moe_topk" ? Experts.K!.Value : Experts.Count!.Value;
        return 2.0 * rows * ((InputDim == null ? 0 : features * input) + (computed * expert) + (gates * Experts.Count!.Value * input) + (Tasks * tower));
    }

    private PoolingKind Pooling => Sparse.Pooling == "mean" ? PoolingKind.Mean : PoolingKind.Sum;
}

/// <summary>The embedded features of a configuration.</summary>
public sealed record SparseConfig
{
    /// <summary>How many.</summary>
    public required int Features { get; init; }

    /// <summary>Rows of each feature's table.</summary>
    public required int Rows { get; init; }

    /// <summary>Width of a row.</summary>
    public required int Dim { get; init; }

    /// <summary>Ids of a sample and feature.</summary>
    public int Bag { get; set; } = 1;

    /// <summary>sum or mean.</summary>
    public string Pooling { get; set; } = "sum";

    /// <summary>Exponent of the draw: 1 = uniform, more = skewed to low ids.</summary>
    public double Skew { get; set; } = 1;
}

/// <summary>The experts of a configuration.</summary>
public sealed record ExpertsConfig
{
    /// <summary>How many.</summary>
    public int? Count { get; init; }

    /// <summary>Chosen a sample; null = all.</summary>
    public int? K { get; init; }

    /// <summary>For each fusion level the widths of an expert's layers.</summary>
    public required IReadOnlyList<IReadOnlyList<int>> Levels { get; init; }
}

/// <summary>The optimisers of a configuration.</summary>
public sealed record OptimizersConfig
{
    /// <summary>Of dense parameters.</summary>
    public OptimizerConfig? Dense { get; init; }

    /// <summary>Of tables.</summary>
    public required OptimizerConfig Sparse { get; init; }
}

/// <summary>One optimiser.</summary>
public sealed record OptimizerConfig
{
    /// <summary>adamw or rowwise_adagrad.</summary>
    public required string Type { get; init; }

    /// <summary>Learning rate.</summary>
    public required float Lr { get; init; }

    /// <summary>Weight decay.</summary>
    public float WeightDecay { get; init; }

    /// <summary>Added to the denominator.</summary>
    public float Eps { get; set; } = 1e-8f;
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow)]
[JsonSerializable(typeof(BenchmarkConfig))]
internal sealed partial class BenchmarkConfigContext : JsonSerializerContext;
