using static CudaMoE.Description.DescriptionValidator;

namespace CudaMoE.Description;

/// <summary>The rules of data.</summary>
internal static class DataRules
{
    public static void Check(ModelDescription description)
    {
        if (description.Data is not { } data)
            return;
        CheckFiles(data);
        CheckFormat(data.Format);
        if (data.Format.Columns is { } columns)
            CheckReferences(description, columns);
        CheckValueSeparators(description.Features, data.Format);
    }

    private static void CheckFiles(DataDescription data)
    {
        if (data.Train.Count == 0)
            throw Error("data.train", $"is empty; it must name at least one file");
        Dictionary<string, string> seen = new(StringComparer.Ordinal);
        foreach ((string key, IReadOnlyList<string> files) in new[] { ("train", data.Train), ("validation", data.Validation), ("test", data.Test) })
        {
            for (int i = 0; i < files.Count; i++)
            {
                string path = $"data.{key}[{i}]";
                if (!seen.TryAdd(Path.TrimEndingDirectorySeparator(files[i]), path))
                    throw Error(path, $"is \"{files[i]}\", which {seen[files[i]]} is already; a row must be in one split only");
            }
        }

        if (data.ValidationSplit is not { } split)
            return;
        if (data.Validation.Count > 0)
            throw Error("data.validation_split", $"is given together with data.validation; give one of them");
        if (split.From == SplitSource.Test && data.Test.Count == 0)
            throw Error("data.validation_split.from", $"is test, but data.test is empty");
    }

    private static void CheckFormat(FileFormat format)
    {
        if (format.Separator.Length != 1 || format.Separator is "\n" or "\r")
            throw Error("data.format.separator", $"is \"{format.Separator}\"; it must be one character, as \",\" or \"\\t\"");
        if (format.Quote is { } quote && (quote.Length != 1 || quote == format.Separator || quote == "\t"))
            throw Error("data.format.quote", $"is \"{quote}\"; it must be one character other than the separator, or null");
        if (format.Header && format.Columns is not null)
            throw Error("data.format.columns", $"is given, but header is true: the first line names the columns; remove one of them");
        if (!format.Header && format.Columns is null)
            throw Error("data.format.columns", $"is missing; files without a header need it");
        if (format.Columns is { } columns)
        {
            if (columns.Count == 0)
                throw Error("data.format.columns", $"is empty; it must name every column in order");
            CheckUnique(columns, "data.format.columns");
        }

        CheckUnique(format.Missing, "data.format.missing");
    }

    /// <summary>Every column that is named anywhere must be one of the file's.</summary>
    private static void CheckReferences(ModelDescription description, IReadOnlyList<string> columns)
    {
        HashSet<string> known = new(columns, StringComparer.Ordinal);
        for (int i = 0; i < description.Features.Count; i++)
        {
            FeatureDescription feature = description.Features[i];
            Reference(feature.Column ?? feature.Name, $"features[{i}].{(feature.Column is null ? "name" : "column")}");
        }

        for (int i = 0; i < description.Tasks.Count; i++)
        {
            TaskDescription task = description.Tasks[i];
            Reference(task.Column ?? task.Name, $"tasks[{i}].{(task.Column is null ? "name" : "column")}");
            Reference(task.WeightColumn, $"tasks[{i}].weight_column");
            Reference(task.Mask?.Column, $"tasks[{i}].mask.column");
        }

        Reference(description.Data!.GroupColumn, "data.group_column");

        void Reference(string? column, string path)
        {
            if (column is not null && !known.Contains(column))
                throw Error(path, $"is \"{LocatedValue.Cut(column)}\", which is not in data.format.columns{NearestName.Suggestion(column, columns)}");
        }
    }

    private static void CheckValueSeparators(IReadOnlyList<FeatureDescription> features, FileFormat format)
    {
        for (int i = 0; i < features.Count; i++)
        {
            FeatureDescription feature = features[i];
            if (!FeatureRules.IsSeparated(feature))
                continue;
            if ((feature.ValueSeparator == format.Separator && format.Quote is null) || feature.ValueSeparator == format.Quote)
            {
                throw Error(
                    $"features[{i}].value_separator", $"is \"{feature.ValueSeparator}\", which parts or quotes the fields; choose another character");
            }
        }
    }
}
