using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Tests.Models;

/// <summary>Small models and random batches that use every kind of input and task.</summary>
internal static class TestModels
{
    /// <summary>Two features on one table, a multi-hot one, and three numbers.</summary>
    public static BatchLayout Layout { get; } = new(
        [
            new("user", "user", 11, 5, false, PoolingKind.Sum, 1),
            new("item", "item", 7, 4, false, PoolingKind.Sum, 1),
            new("previous", "item", 7, 4, false, PoolingKind.Sum, 1),
            new("tags", "tags", 6, 3, true, PoolingKind.Mean, 4),
        ],
        DenseWidth: 3,
        Tasks: 3);

    /// <summary>The same with no tables at all.</summary>
    public static BatchLayout DenseLayout { get; } = new([], DenseWidth: 6, Tasks: 3);

    /// <summary>With two sequences, one of them over another feature's table; sequences may be empty.</summary>
    public static BatchLayout SequenceLayout { get; } = Layout with
    {
        Sparse =
        [
            .. Layout.Sparse,
            new("history", "item", 7, 4, true, PoolingKind.Mean, 3, Positions: 3),
            new("pages", "pages", 5, 4, true, PoolingKind.Mean, 3, Positions: 3),
        ],
    };

    public static IReadOnlyList<TaskDescription> BinaryTasks { get; } =
        [Task("click", TaskType.Binary), Task("like", TaskType.Binary), Task("share", TaskType.Binary)];

    /// <summary>A chain, told from its end: share given like given click.</summary>
    public static IReadOnlyList<TaskDescription> GivenTasks { get; } =
        [BinaryTasks[2] with { Given = "like" }, BinaryTasks[1] with { Given = "click" }, BinaryTasks[0]];

    public static IReadOnlyList<TaskDescription> MixedTasks { get; } =
        [Task("click", TaskType.Binary), Task("stars", TaskType.Multiclass), Task("time", TaskType.Regression)];

    public static ModelDescription Describe(ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks, TrainingDescription? training = null) => new()
    {
        Name = "test",
        Features =
        [
            new() { Name = "user", Type = FeatureType.Categorical, Dimension = 5 },
            new() { Name = "item", Type = FeatureType.Categorical, Dimension = 4, Table = "item" },
            new() { Name = "previous", Type = FeatureType.Categorical, Dimension = 4, Table = "item" },
            new() { Name = "tags", Type = FeatureType.MultiHot, Dimension = 3, MaxLength = 4 },
            new() { Name = "numbers", Type = FeatureType.Vector, Size = 3 },
        ],
        Tasks = tasks,
        Architecture = architecture,
        Training = training ?? new() { Seed = 5 },
    };

    public static IReadOnlyList<int> Outputs(IReadOnlyList<TaskDescription> tasks) => [.. tasks.Select(t => t.Type == TaskType.Multiclass ? t.Classes!.Count : 1)];

    /// <summary>Random samples: duplicate ids, empty bags, missing labels, weights of 0.</summary>
    public static Batch RandomBatch(BatchLayout layout, IReadOnlyList<TaskDescription> tasks, int rows, Random random)
    {
        Batch batch = new(layout, Math.Max(rows, 1));
        Fill(batch, tasks, rows, random);
        return batch;
    }

    /// <summary>The same in a batch that is there.</summary>
    public static unsafe void Fill(Batch batch, IReadOnlyList<TaskDescription> tasks, int rows, Random random)
    {
        BatchLayout layout = batch.Layout;
        batch.Rows = rows;
        for (int f = 0; f < layout.Sparse.Count; f++)
        {
            SparseInput input = layout.Sparse[f];
            long count = rows;
            if (input.MultiHot)
            {
                int total = 0;
                batch.OffsetsPointer(f)[0] = 0;
                for (int row = 0; row < rows; row++)
                {
                    total += random.Next(0, input.MaxLength + 1);
                    batch.OffsetsPointer(f)[row + 1] = total;
                }

                batch.SetIdCount(f, total);
                count = total;
            }

            for (int i = 0; i < count; i++)
                batch.IdsPointer(f)[i] = random.Next(0, input.Rows);
        }

        for (int i = 0; i < batch.Dense.Length; i++)
            batch.Dense[i] = (float)((random.NextDouble() * 4) - 2);
        for (int t = 0; t < tasks.Count; t++)
        {
            for (int row = 0; row < rows; row++)
            {
                batch.Labels(t)[row] = random.Next(8) == 0 ? float.NaN : tasks[t].Type switch
                {
                    TaskType.Binary => random.Next(2),
                    TaskType.Multiclass => random.Next(tasks[t].Classes!.Count),
                    _ => (float)((random.NextDouble() * 3) - 1),
                };
                batch.Weights(t)[row] = random.Next(6) == 0 ? 0 : (float)(0.5 + random.NextDouble());
            }
        }
    }

    private static TaskDescription Task(string name, TaskType type) => new()
    {
        Name = name,
        Type = type,
        Classes = type == TaskType.Multiclass ? ["one", "two", "three", "four"] : null,
    };
}
