using System.Globalization;
using CudaMoE.Description;

namespace CudaMoE.Cli.Starter;

/// <summary>A column as a feature, or left out; with the reason for the reader of the file.</summary>
internal sealed record ColumnGuess(ColumnSample Column, FeatureDescription? Feature, string Reason);

/// <summary>A column as a task, with the reason.</summary>
internal sealed record TaskGuess(ColumnSample Column, TaskDescription Task, string Reason);

/// <summary>Guesses features and tasks from what a sample says.</summary>
internal static class StarterGuess
{
    private const int MaxClasses = 50;
    private const int MaxVocabulary = 20_000;
    private static readonly string[] TaskNames =
        ["label", "target", "y", "click", "clicked", "is_click", "like", "is_like", "purchase", "purchased", "buy", "conversion", "converted", "rating", "class"];

    private static readonly string[] PositiveTexts = ["1", "yes", "true", "y", "t", "positive"];

    /// <summary>A feature of a column, or null where it cannot help.</summary>
    public static ColumnGuess Feature(ColumnSample column)
    {
        string facts = Facts(column);
        if (column.Distinct <= 1)
            return new(column, null, column.Present == 0 ? "has no values" : "has one value only");
        if (column.ListSeparator(out int parts, out bool numbers, out int longest) is { } separator)
            return new(column, ListFeature(column, separator, parts, numbers), $"up to {longest} values in a field, {facts}");
        bool unique = column.Present >= 100 && column.Distinct >= Math.Min(column.Present, ColumnSample.MaxDistinct) * 0.95;
        if (unique && (!column.IsNumeric || (column.IsInteger && IsIdName(column.Name))))
            return new(column, null, "differs in nearly every row");
        if (column.IsNumeric && !IsIdName(column.Name) && (!column.IsInteger || column.Distinct > 10))
            return new(column, new() { Name = column.Name, Type = FeatureType.Dense, Transform = IsSkewed(column) ? DenseTransform.Log : DenseTransform.Standardize }, facts);
        return new(column, Categorical(column), facts);
    }

    /// <summary>A task of a column.</summary>
    /// <param name="column">The column.</param>
    /// <param name="type">The type that the user gave; null = the one that fits.</param>
    /// <param name="positive">The text that counts as 1, if the user gave it.</param>
    /// <param name="whole">Whether the sample is all rows, so that its classes are all there are.</param>
    /// <exception cref="UsageException">The column cannot be such a task.</exception>
    public static TaskGuess Task(ColumnSample column, TaskType? type, string? positive, bool whole)
    {
        if (column.Distinct < 2)
            throw new UsageException($"column \"{column.Name}\" has {(column.Distinct == 0 ? "no values" : "one value only")} in the sample, so there is nothing to learn from it");
        TaskType fitting = type ?? (positive is not null || column.Distinct == 2 ? TaskType.Binary : column.IsNumeric ? TaskType.Regression : TaskType.Multiclass);
        TaskDescription task = new() { Name = column.Name.Replace('/', '_'), Column = column.Name.Contains('/', StringComparison.Ordinal) ? column.Name : null, Type = fitting };
        switch (fitting)
        {
            case TaskType.Binary:
                return Binary(column, task, positive);
            case TaskType.Regression when !column.IsNumeric:
                throw new UsageException($"column \"{column.Name}\" holds texts, so it cannot be a regression task");
            case TaskType.Regression:
                LabelTransform transform = column.Minimum >= 0 && IsSkewed(column) ? LabelTransform.Log : LabelTransform.Standardize;
                return new(column, task with { Transform = transform }, Facts(column));
            default:
                if (column.Distinct > MaxClasses)
                    throw new UsageException($"column \"{column.Name}\" has {column.Distinct} different values, too many for classes", $"--task {column.Name}=VALUE makes a binary task of one value");
                // A class of few rows may be in the validation rows only.
                return new(column, whole ? task with { Classes = [.. SortedClasses(column)] } : task, Facts(column));
        }
    }

    /// <summary>The column that looks most like a label: one of a usual name, else the last with two values, else the last.</summary>
    public static ColumnSample LikelyLabel(IReadOnlyList<ColumnSample> columns)
    {
        ColumnSample[] usable = [.. columns.Where(c => c.Distinct >= 2 && (c.IsNumeric || c.Distinct <= MaxClasses))];
        return TaskNames.Select(name => Array.Find(usable, c => c.Name.Equals(name, StringComparison.OrdinalIgnoreCase))).FirstOrDefault(c => c is not null)
            ?? Array.FindLast(usable, c => c.Distinct == 2)
            ?? usable.LastOrDefault()
            ?? throw new UsageException("no column looks like a label", "name one with --task COLUMN");
    }

    private static TaskGuess Binary(ColumnSample column, TaskDescription task, string? positive)
    {
        if (positive is not null)
        {
            if (!column.Counts.TryGetValue(positive, out long rows))
                throw new UsageException($"column \"{column.Name}\" has no value \"{positive}\" in the sample");
            return new(column, task with { Positive = [positive] }, $"{Share(rows, column)} of the sample are 1");
        }

        // Numbers from 0 to 1 are labels as they stand.
        if (column.IsNumeric && column.Minimum >= 0 && column.Maximum <= 1)
            return new(column, task, $"mean {column.Mean:0.####} in the sample");
        if (column.Distinct != 2)
            throw new UsageException($"column \"{column.Name}\" has {column.Distinct} different values; say which one counts as 1", $"--task {column.Name}=VALUE");
        string chosen = column.Counts.Keys.FirstOrDefault(k => PositiveTexts.Contains(k.ToLowerInvariant())) ?? column.Counts.MinBy(p => p.Value).Key;
        return new(column, task with { Positive = [chosen] }, $"{Share(column.Counts[chosen], column)} of the sample are 1; if the other value should be 1, swap it");
    }

    // In the order in which training sorts the classes that it learns.
    private static IEnumerable<string> SortedClasses(ColumnSample column) => column.IsNumeric
        ? column.Counts.Keys.OrderBy(text => double.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture)).ThenBy(text => text, StringComparer.Ordinal)
        : column.Counts.Keys.Order(StringComparer.Ordinal);

    private static FeatureDescription ListFeature(ColumnSample column, char separator, int parts, bool numbers)
    {
        if (numbers && parts >= 3)
            return new() { Name = column.Name, Type = FeatureType.Vector, ValueSeparator = separator.ToString(), Size = parts };
        return new() { Name = column.Name, Type = FeatureType.MultiHot, ValueSeparator = separator.ToString(), Dimension = Width(column.Distinct) };
    }

    private static FeatureDescription Categorical(ColumnSample column)
    {
        FeatureDescription feature = new() { Name = column.Name, Type = FeatureType.Categorical, Dimension = Width(column.Distinct) };
        return column.Distinct <= MaxVocabulary ? feature : feature with { Encoding = CategoryEncoding.Hash, Buckets = 200_000 };
    }

    // Wider for more values; powers of two, since rows of whole cache lines are read fastest.
    private static int Width(int distinct) => distinct switch
    {
        <= 50 => 4,
        <= 1000 => 8,
        <= 10_000 => 16,
        _ => 32,
    };

    private static bool IsIdName(string name) =>
        name.EndsWith("id", StringComparison.Ordinal) || name.EndsWith("Id", StringComparison.Ordinal) || name.EndsWith("ID", StringComparison.Ordinal)
        || name.EndsWith("code", StringComparison.OrdinalIgnoreCase);

    // Counts and amounts: not negative, and a few of them far above the rest.
    private static bool IsSkewed(ColumnSample column) => column.Minimum >= 0 && column.Maximum > 20 && column.Mean > 2 * column.Median() && column.Maximum > 20 * Math.Max(column.Mean, 1e-9);

    private static string Share(long rows, ColumnSample column) => $"{100.0 * rows / column.Present:0.##} %";

    private static string Facts(ColumnSample column)
    {
        string values = column.Distinct >= ColumnSample.MaxDistinct ? $"more than {ColumnSample.MaxDistinct} values" : $"{column.Distinct} values";
        string range = column.IsNumeric ? $", {column.Minimum:G6} to {column.Maximum:G6}" : "";
        string missing = column.Missing > 0 ? $", {100.0 * column.Missing / column.Rows:0.##} % missing" : "";
        return values + range + missing;
    }
}
