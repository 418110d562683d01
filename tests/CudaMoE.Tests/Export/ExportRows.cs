using System.Globalization;
using System.Text;
using CudaMoE.Description;

namespace CudaMoE.Tests.Export;

/// <summary>Features of every kind and encoding, tasks of every type, and random rows of texts for them: missing, unknown and padded values among them.</summary>
internal static class ExportRows
{
    public static readonly string[] Missing = ["?", "n/a"];

    public static IReadOnlyList<FeatureDescription> Features { get; } =
    [
        new() { Name = "user", Type = FeatureType.Categorical, Dimension = 5 },
        new() { Name = "age", Type = FeatureType.Dense },
        new() { Name = "item", Type = FeatureType.Categorical, Dimension = 4, Table = "items", MinCount = 2 },
        new() { Name = "city", Type = FeatureType.Categorical, Dimension = 3, Encoding = CategoryEncoding.Hash, Buckets = 9 },
        new() { Name = "price", Type = FeatureType.Dense, Transform = DenseTransform.Log },
        new() { Name = "tags", Type = FeatureType.MultiHot, Dimension = 3 },
        new() { Name = "state", Type = FeatureType.Vector, Size = 3, ValueSeparator = ";" },
        new() { Name = "rank", Type = FeatureType.Categorical, Dimension = 2, Encoding = CategoryEncoding.Identity, Buckets = 8 },
        new() { Name = "words", Column = "text", Type = FeatureType.MultiHot, Dimension = 4, Encoding = CategoryEncoding.Hash, Buckets = 7, Pooling = PoolingKind.Sum, MaxLength = 3 },
        new() { Name = "ratio", Type = FeatureType.Dense, Transform = DenseTransform.MinMax },
        new() { Name = "history", Type = FeatureType.Sequence, Dimension = 4, Table = "items", MinCount = 2, MaxLength = 3 },
        new() { Name = "days", Type = FeatureType.Dense, Transform = DenseTransform.Quantile, Buckets = 5, Dimension = 3 },
        new() { Name = "constant", Type = FeatureType.Dense },
        new() { Name = "pages", Type = FeatureType.Sequence, Dimension = 2, Encoding = CategoryEncoding.Identity, Buckets = 6, MaxLength = 2, Keep = SequenceEnd.First },
        new() { Name = "change", Type = FeatureType.Dense, Transform = DenseTransform.None },
    ];

    /// <summary>Binary tasks, a chain told from its end.</summary>
    public static IReadOnlyList<TaskDescription> Chain { get; } =
    [
        new() { Name = "share", Column = "b0", Type = TaskType.Binary, Given = "like" },
        new() { Name = "like", Column = "b1", Type = TaskType.Binary, Given = "click" },
        new() { Name = "click", Column = "b2", Type = TaskType.Binary },
    ];

    public static IReadOnlyList<TaskDescription> Binary { get; } = [.. Chain.Select(task => task with { Given = null })];

    public static IReadOnlyList<TaskDescription> Mixed { get; } =
    [
        new() { Name = "click", Column = "b0", Type = TaskType.Binary },
        new() { Name = "kind", Type = TaskType.Multiclass },
        new() { Name = "watch", Column = "r0", Type = TaskType.Regression, Transform = LabelTransform.Standardize },
        new() { Name = "spent", Column = "r1", Type = TaskType.Regression, Transform = LabelTransform.Log },
        new() { Name = "plain", Column = "r0", Type = TaskType.Regression },
    ];

    private static readonly string[] Columns = [.. Features.Select(f => f.Column ?? f.Name), "b0", "b1", "b2", "r0", "r1", "kind"];

    /// <summary>Rows as a file holds them, the first line with the columns.</summary>
    public static string[][] Random(Random random, int rows, bool unseen)
    {
        List<string[]> lines = [Columns];
        for (int row = 0; row < rows; row++)
            lines.Add([.. Features.Select(feature => Field(feature, random, unseen)), .. Labels(random, row)]);
        return [.. lines];
    }

    public static string Text(string[][] rows) => string.Concat(rows.Select(row => string.Join(',', row) + "\n"));

    private static string[] Labels(Random random, int row) =>
    [
        .. Enumerable.Range(0, 3).Select(_ => random.Next(2).ToString(CultureInfo.InvariantCulture)),
        Number((random.NextDouble() * 8) - 2),
        Number(random.NextDouble() * 5),
        ((string[])["red", "green", "blue", "white"])[row % 4],
    ];

    private static string Field(FeatureDescription feature, Random random, bool unseen)
    {
        if (random.Next(7) == 0)
            return Padded(((string[])["", "?", "n/a"])[random.Next(3)], random);
        switch (feature.Type)
        {
            case FeatureType.Categorical:
                return Padded(Value(feature, random, unseen), random);
            case FeatureType.Dense when feature.Name == "constant":
                return unseen ? Number(random.NextDouble()) : "3.5";
            case FeatureType.Dense:
                return Number(feature.Transform == DenseTransform.Log ? Math.Exp(random.NextDouble() * 6) - 20 : (random.NextDouble() * (unseen ? 8 : 6)) - 3);
            case FeatureType.Vector:
                return string.Join(feature.ValueSeparator, Enumerable.Range(0, feature.Size!.Value).Select(_ => Number((random.NextDouble() * 2) - 1)));
            default:
                // One value among several may be missing; it takes no place.
                return string.Join('|', Enumerable.Range(0, random.Next(6)).Select(_ => random.Next(8) == 0 ? "?" : Padded(Value(feature, random, unseen), random)));
        }
    }

    private static string Value(FeatureDescription feature, Random random, bool unseen) => feature.Encoding switch
    {
        CategoryEncoding.Identity => random.Next(5) == 0 ? ((string[])["0", "-3", "99", "x", "5.5"])[random.Next(5)] : random.Next(1, 6).ToString(CultureInfo.InvariantCulture),
        CategoryEncoding.Hash => new StringBuilder().Insert(0, "Ärger ", random.Next(1, 9)).Append(random.Next(30)).ToString(),
        _ => string.Create(CultureInfo.InvariantCulture, $"{feature.Table ?? feature.Name} {random.Next(unseen ? 12 : 9)}"),
    };

    private static string Padded(string text, Random random) => random.Next(4) == 0 ? $" {text}\t" : text;

    private static string Number(double value) => value.ToString("R", CultureInfo.InvariantCulture);
}
