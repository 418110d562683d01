using System.Globalization;
using System.Text;
using CudaMoE.Description;

namespace CudaMoE.Tests.Data;

/// <summary>Random tables with one feature of each kind, written as text, and what batches of them must hold, worked out the plain way.</summary>
internal sealed class NaiveTable
{
    private const string Separator = ";";
    private readonly List<Row> _rows = [];

    public NaiveTable(Random random, int rows)
    {
        for (int i = 0; i < rows; i++)
        {
            _rows.Add(new(
                random.Next(6) == 0 ? "" : $"c{random.Next(12)}é",
                [.. Enumerable.Range(0, random.Next(5)).Select(_ => $"t{random.Next(9)}")],
                random.Next(7) == 0 ? null : random.Next(-1000, 1000) / 8.0,
                [random.Next(-9, 9), random.Next(-9, 9) / 4.0],
                random.Next(5) == 0 ? null : random.Next(2),
                random.Next(8) / 4.0,
                $"u{random.Next(10)}",
                random.Next(3) > 0));
        }

        // Every task needs a row to be trained on.
        for (int i = 0; i < Math.Min(rows, 3); i++)
            _rows[i] = _rows[i] with { Y = i % 2, Weight = 0.5, Kept = true };
    }

    public static ModelDescription Description { get; } = Describe.Model(
        [
            Describe.Category("c"),
            new() { Name = "bag", Type = FeatureType.MultiHot, Dimension = 4, MaxLength = 3 },
            new() { Name = "q", Column = "x", Type = FeatureType.Dense, Transform = DenseTransform.Quantile, Buckets = 5, Dimension = 4 },
            new() { Name = "v", Type = FeatureType.Vector, Size = 2 },
            new() { Name = "x", Type = FeatureType.Dense, Transform = DenseTransform.None },
            new() { Name = "all", Column = "bag", Type = FeatureType.MultiHot, Dimension = 4, Encoding = CategoryEncoding.Hash, Buckets = 5 },
            new() { Name = "latest", Column = "bag", Type = FeatureType.Sequence, Dimension = 4, MaxLength = 2 },
        ],
        [
            new() { Name = "y", Type = TaskType.Binary },
            new() { Name = "z", Column = "w", Type = TaskType.Regression, WeightColumn = "w", Mask = new() { Column = "kept", In = ["yes"] } },
        ],
        new() { Train = ["train.csv"], Format = new() { Separator = Separator }, GroupColumn = "u" });

    public int Count => _rows.Count;

    public string Text(Random random)
    {
        StringBuilder text = new("u;c;bag;x;v;y;w;kept;extra\n");
        foreach (Row row in _rows)
        {
            string[] fields =
            [
                row.User, row.Category, string.Join('|', row.Bag), Number(row.X), string.Join('|', row.Vector.Select(value => Number(value))), Number(row.Y),
                Number(row.Weight), row.Kept ? "yes" : "no", "\"a;\nb\"",
            ];
            text.AppendJoin(Separator, fields.Select(field => random.Next(5) == 0 && !field.StartsWith('"') ? $"\"{field}\"" : field)).Append('\n');
        }

        return text.ToString();

        static string Number(double? value) => value?.ToString(CultureInfo.InvariantCulture) ?? "";
    }

    /// <summary>What each row must be, as one line of text a row; ids and statistics come from the rows with the given numbers.</summary>
    public string[] Encode(IReadOnlyCollection<int> trainingRows)
    {
        Row[] training = [.. trainingRows.Select(i => _rows[i])];
        List<string> categories = Vocabulary(training.Where(row => row.Category.Length > 0).Select(row => row.Category));
        List<string> tags = Vocabulary(training.SelectMany(row => row.Bag.Take(3)));
        List<string> latest = Vocabulary(training.SelectMany(row => row.Bag.TakeLast(2)));
        int longest = Math.Max(1, training.Max(row => row.Bag.Length));
        double[] numbers = [.. training.Where(row => row.X is not null).Select(row => row.X!.Value).Order()];
        double mean = numbers.Length == 0 ? 0 : numbers.Average();
        List<string> users = [];
        string[] lines = new string[_rows.Count];
        for (int i = 0; i < lines.Length; i++)
        {
            Row row = _rows[i];
            if (!users.Contains(row.User))
                users.Add(row.User);
            int bucket = row.X is not { } x ? 0 : numbers.Length == 0 ? 1 : 1 + Enumerable.Range(1, 4).Count(j => numbers[j * numbers.Length / 5] <= x);
            lines[i] = Line(
                1 + categories.IndexOf(row.Category),
                row.Bag.Take(3).Select(tag => 1 + tags.IndexOf(tag)),
                bucket,
                row.Bag.Take(longest).Select(tag => 1 + (int)(CudaMoE.Data.XxHash64.Hash(Encoding.UTF8.GetBytes(tag)) % 4)),
                row.Bag.TakeLast(2).Select(tag => 1 + latest.IndexOf(tag)),
                [(float)row.Vector[0], (float)row.Vector[1], (float)(row.X ?? mean)],
                [(float)(row.Y ?? double.NaN), (float)row.Weight],
                [1, row.Kept ? (float)row.Weight : 0],
                users.IndexOf(row.User));
        }

        return lines;
    }

    /// <summary>The rows of a batch in the same form.</summary>
    public static unsafe string[] Lines(CudaMoE.Data.Batch batch)
    {
        string[] lines = new string[batch.Rows];
        for (int i = 0; i < lines.Length; i++)
        {
            int row = i;
            int[] Bag(int input) => batch.Ids(input)[batch.OffsetsPointer(input)[row]..batch.OffsetsPointer(input)[row + 1]].ToArray();
            lines[i] = Line(
                batch.Ids(0)[i], Bag(1), batch.Ids(2)[i], Bag(3), Bag(4), batch.Dense.Slice(i * 3, 3).ToArray(),
                [batch.Labels(0)[i], batch.Labels(1)[i]], [batch.Weights(0)[i], batch.Weights(1)[i]], batch.Groups[i]);
        }

        return lines;
    }

    private static List<string> Vocabulary(IEnumerable<string> texts) =>
        [.. texts.GroupBy(text => text).OrderByDescending(group => group.Count()).ThenBy(group => group.Key, StringComparer.Ordinal).Select(group => group.Key)];

    private static string Line(
        int category, IEnumerable<int> bag, int bucket, IEnumerable<int> all, IEnumerable<int> latest, float[] dense, float[] labels, float[] weights, int group) =>
        FormattableString.Invariant(
            $"{category} [{string.Join(' ', bag)}] {bucket} [{string.Join(' ', all)}] [{string.Join(' ', latest)}] {Join(dense)} labels {Join(labels)} weights {Join(weights)} group {group}");

    private static string Join(float[] values) => string.Join(' ', values.Select(value => value.ToString("R", CultureInfo.InvariantCulture)));

    private sealed record Row(string Category, string[] Bag, double? X, double[] Vector, double? Y, double Weight, string User, bool Kept);
}
