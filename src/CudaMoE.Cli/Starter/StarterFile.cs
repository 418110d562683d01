using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using CudaMoE.Description;

namespace CudaMoE.Cli.Starter;

/// <summary>What a starter file is made of.</summary>
internal sealed record StarterContent
{
    public required string Name { get; init; }

    public required FileFormat Format { get; init; }

    /// <summary>Data files, relative to the model file.</summary>
    public required string Train { get; init; }

    public string? Test { get; init; }

    public required long SampleRows { get; init; }

    public required IReadOnlyList<ColumnGuess> Columns { get; init; }

    public required IReadOnlyList<TaskGuess> Tasks { get; init; }

    /// <summary>Whether the tasks were guessed, not named.</summary>
    public required bool TasksGuessed { get; init; }
}

/// <summary>Writes a model file with comments, for a person to go on with.</summary>
internal static class StarterFile
{
    /// <summary>The text of the file.</summary>
    public static string Write(StarterContent content)
    {
        StringBuilder text = new();
        text.Append(CultureInfo.InvariantCulture, $$"""
            // A starter model file, made by 'cudamoe init' from {{content.SampleRows}} rows. Read it through, change what you know better, then run
            //   cudamoe train THIS_FILE
            // Comments and trailing commas are fine. Keys that are left out have their defaults; a wrong key is an error that says what is right.
            {
              "name": {{Quote(content.Name)}},

              "data": {
                "format": {{Format(content)}},
                // Relative paths start at this file's folder; .gz files are read as they are.
                "train": [{{Quote(content.Train)}}],
                "test": [{{(content.Test is null ? "" : Quote(content.Test))}}],{{(content.Test is null ? "  // rows that training never sees, for the final test" : "")}}
                // A tenth of the training rows are set aside to choose the best epoch.
                "validation_split": { "from": "train", "fraction": 0.1, "seed": 1 },
                // "group_column": "user_id",  // groups rows for GAUC
              },


            """);
        WriteFeatures(text, content);
        WriteTasks(text, content);
        WriteRest(text, content);
        return text.ToString().ReplaceLineEndings("\n");
    }

    private static void WriteFeatures(StringBuilder text, StarterContent content)
    {
        text.AppendLine("  // The inputs. Types: categorical, multi_hot (several values in a field), dense (a number), vector (several numbers).");
        text.AppendLine("  \"features\": [");
        foreach (ColumnGuess guess in content.Columns)
        {
            if (guess.Feature is { } feature)
                text.AppendLine($"    {Feature(feature)},  // {Comment(guess.Reason)}");
            else
                text.AppendLine($"    // {Comment(guess.Column.Name)} is left out: it {Comment(guess.Reason)}");
        }

        text.AppendLine("  ],").AppendLine();
    }

    private static void WriteTasks(StringBuilder text, StarterContent content)
    {
        if (content.TasksGuessed)
            text.AppendLine("  // What to predict. This was guessed; 'cudamoe init --task COLUMN --task COLUMN' names the columns.");
        text.AppendLine("  // Types: binary, regression, multiclass. A label column must not be a feature too.");
        text.AppendLine("  \"tasks\": [");
        foreach (TaskGuess guess in content.Tasks)
            text.AppendLine($"    {Task(guess.Task)},  // {Comment(guess.Reason)}");
        text.AppendLine("  ],").AppendLine();
    }

    private static void WriteRest(StringBuilder text, StarterContent content)
    {
        bool several = content.Tasks.Count > 1;
        text.Append(several
            ? """
                // Multi-gate mixture of experts: every task has a gate that weighs the experts for each row.
                "architecture": {
                  "type": "mmoe",  // or "shared_bottom", "single_task", "ml_mmoe", "cgc", "ple", "adatt", "cross_stitch"
                  "experts": { "count": 8, "layers": [128, 64] },
                  "gate": {},      // { "top_k": 2, "balance_loss": 0.01 } lets each row use two experts only
                  "tower": [32],
                  "activation": "relu",
                },

              """
            : """
                // One task needs no experts of its own; "mmoe" with "experts" and "gate" pays with several tasks.
                "architecture": {
                  "type": "shared_bottom",
                  "bottom": [128, 64],
                  "tower": [32],
                  "activation": "relu",
                },

              """);
        text.Append(CultureInfo.InvariantCulture, $$"""

              "training": {
                "batch_size": 1024,
                "epochs": 10,
                "seed": 1,
                "optimizer": { "type": "adamw", "learning_rate": 0.001, "weight_decay": 0.00001 },
                "embedding_optimizer": { "type": "rowwise_adagrad", "learning_rate": 0.05 },
                // How the gradients of the tasks are balanced: equal, static (by each task's weight), mgda, multi_balance.
                "balancer": { "type": {{(several ? "\"multi_balance\"" : "\"equal\"")}} },
                // Stops when the validation metric has not improved for this many epochs, and keeps the best weights.
                "early_stopping": { "metric": {{Quote(Metric(content.Tasks))}}, "patience": 2 },
              },
            }

            """);
    }

    // The metric of the first task's kind; of that task alone where the others have another kind.
    private static string Metric(IReadOnlyList<TaskGuess> tasks)
    {
        TaskType type = tasks[0].Task.Type;
        string metric = type switch
        {
            TaskType.Binary => "auc",
            TaskType.Regression => "rmse",
            _ => "log_loss",
        };
        return tasks.All(t => t.Task.Type == type) && type != TaskType.Regression ? metric : $"{tasks[0].Task.Name}/{metric}";
    }

    private static string Format(StarterContent content)
    {
        FileFormat format = content.Format;
        List<string> keys = [$"\"separator\": {Quote(format.Separator)}"];
        if (!format.Header)
            keys.Add($"\"header\": false,\n      \"columns\": [{string.Join(", ", format.Columns!.Select(Quote))}]");
        if (format.Missing.Count > 0)
            keys.Add($"\"missing\": [{string.Join(", ", format.Missing.Select(Quote))}]");
        return $"{{ {string.Join(", ", keys)} }}";
    }

    private static string Feature(FeatureDescription feature)
    {
        List<string> keys = [$"\"name\": {Quote(feature.Name)}", $"\"type\": {Name(feature.Type)}"];
        if (feature.Dimension is { } dimension)
            keys.Add($"\"dimension\": {dimension}");
        if (feature.Encoding != CategoryEncoding.Vocabulary)
            keys.Add($"\"encoding\": {Name(feature.Encoding)}");
        if (feature.Buckets is { } buckets)
            keys.Add($"\"buckets\": {buckets}");
        if (feature.Type is FeatureType.MultiHot or FeatureType.Sequence or FeatureType.Vector)
            keys.Add($"\"value_separator\": {Quote(feature.ValueSeparator)}");
        if (feature.Size is { } size)
            keys.Add($"\"size\": {size}");
        if (feature.Type == FeatureType.Dense)
            keys.Add($"\"transform\": {Name(feature.Transform)}");
        return $"{{ {string.Join(", ", keys)} }}";
    }

    private static string Task(TaskDescription task)
    {
        List<string> keys = [$"\"name\": {Quote(task.Name)}", $"\"type\": {Name(task.Type)}"];
        if (task.Column is not null)
            keys.Add($"\"column\": {Quote(task.Column)}");
        if (task.Positive is { } positive)
            keys.Add($"\"positive\": [{string.Join(", ", positive.Select(Quote))}]");
        if (task.Classes is { } classes)
            keys.Add($"\"classes\": [{string.Join(", ", classes.Select(Quote))}]");
        if (task.Transform != LabelTransform.None)
            keys.Add($"\"transform\": {Name(task.Transform)}");
        return $"{{ {string.Join(", ", keys)} }}";
    }

    private static string Name<T>(T value)
        where T : struct, Enum => Quote(JsonNamingPolicy.SnakeCaseLower.ConvertName(value.ToString()));

    private static string Quote(string text) => $"\"{JsonEncodedText.Encode(text, JavaScriptEncoder.UnsafeRelaxedJsonEscaping)}\"";

    // A comment ends with its line, so no line end may get into it.
    private static string Comment(string text)
    {
        string line = new([.. text.Select(c => char.IsControl(c) || c is '\u2028' or '\u2029' ? ' ' : c)]);
        return line.Length <= 100 ? line : line[..100] + "...";
    }
}
