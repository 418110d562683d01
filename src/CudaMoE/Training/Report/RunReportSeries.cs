using System.Text.Json.Serialization;

namespace CudaMoE.Training;

/// <summary>The numbers that the report's charts draw; null = a gap. Series are lists of values over the steps of <c>Steps.Step</c>.</summary>
internal sealed record RunReportSeries
{
    /// <summary>Most points of a curve; steps beyond are averaged in runs of equal length.</summary>
    public const int MaxPoints = 1000;

    /// <summary>Most curves of cosines; beyond, the pairs that conflict most are kept.</summary>
    public const int MaxPairs = 28;

    public required IReadOnlyList<string> Tasks { get; init; }

    public required StepSeries Steps { get; init; }

    public required EpochSeries Epochs { get; init; }

    public required IReadOnlyList<TaskCalibration> Calibration { get; init; }

    public required IReadOnlyList<LoadSeries> Load { get; init; }

    public static RunReportSeries From(RunReportModel model) => new()
    {
        Tasks = model.Started.Tasks,
        Steps = StepSeries.From(model),
        Epochs = EpochSeries.From(model),
        Calibration = model.Calibration?.Tasks ?? [],
        Load = [.. model.Gates.Select(g => new LoadSeries(g.Layer, Finite(g.ExpertLoad)))],
    };

    public static double?[] Finite(IEnumerable<double> values) => [.. values.Select(v => double.IsFinite(v) ? v : (double?)null)];
}

/// <summary>Load of the experts of a mixture.</summary>
internal sealed record LoadSeries(string Layer, double?[] Share);

/// <summary>One curve.</summary>
internal sealed record NamedSeries(string Name, double?[] Values);

/// <summary>Curves over steps.</summary>
internal sealed record StepSeries
{
    /// <summary>Logged steps that one point stands for.</summary>
    public required int Merged { get; init; }

    public required double?[] Step { get; init; }

    public required double?[] SamplesPerSecond { get; init; }

    public required double?[] LearningRate { get; init; }

    public required double?[][] Losses { get; init; }

    public required double?[][] Weights { get; init; }

    public required double?[][]? Lambda { get; init; }

    public required double?[][]? GradientNorms { get; init; }

    public required NamedSeries[]? Cosines { get; init; }

    public required double?[]? DroppedRows { get; init; }

    public required double?[][]? ExpertLoad { get; init; }

    public static StepSeries From(RunReportModel model)
    {
        List<StepEvent> steps = model.Steps;
        int tasks = model.Started.Tasks.Count;
        int merged = Math.Max(1, (steps.Count + RunReportSeries.MaxPoints - 1) / RunReportSeries.MaxPoints);

        double?[] Curve(Func<StepEvent, double?> value) => [.. steps.Chunk(merged).Select(run => Mean(run.Select(value)))];

        double?[][] Curves(int count, Func<StepEvent, IReadOnlyList<double>?> list) =>
            [.. Enumerable.Range(0, count).Select(i => Curve(s => list(s) is { } values && i < values.Count ? values[i] : null))];

        double?[][]? OptionalCurves(int count, Func<StepEvent, IReadOnlyList<double>?> list) =>
            steps.Exists(s => list(s) is not null) ? Curves(count, list) : null;

        int experts = steps.Max(s => s.ExpertLoad?.Count) ?? 0;
        return new()
        {
            Merged = merged,
            Step = Curve(s => s.Step),
            SamplesPerSecond = Curve(s => s.SamplesPerSecond),
            LearningRate = Curve(s => s.LearningRate),
            Losses = Curves(tasks, s => s.Losses),
            Weights = Curves(tasks, s => s.Weights),
            Lambda = OptionalCurves(tasks, s => s.Lambda),
            GradientNorms = OptionalCurves(tasks, s => s.GradientNorms),
            Cosines = steps.Exists(s => s.Cosines is not null) ? Pairs(model.Started.Tasks, Curve) : null,
            DroppedRows = steps.Exists(s => s.DroppedRows is not null) ? Curve(s => s.DroppedRows) : null,
            ExpertLoad = OptionalCurves(experts, s => s.ExpertLoad),
        };
    }

    private static NamedSeries[] Pairs(IReadOnlyList<string> tasks, Func<Func<StepEvent, double?>, double?[]> curve)
    {
        List<NamedSeries> pairs = [];
        for (int a = 0; a < tasks.Count; a++)
        {
            for (int b = a + 1; b < tasks.Count; b++)
            {
                int at = (a * tasks.Count) + b;
                pairs.Add(new($"{tasks[a]} / {tasks[b]}", curve(s => s.Cosines is { } c && at < c.Count ? c[at] : null)));
            }
        }

        return pairs.Count <= RunReportSeries.MaxPairs ? [.. pairs] : [.. pairs.OrderBy(p => Mean(p.Values) ?? 2).Take(RunReportSeries.MaxPairs)];
    }

    private static double? Mean(IEnumerable<double?> values)
    {
        double sum = 0;
        int count = 0;
        foreach (double? value in values)
        {
            if (value is not { } v || !double.IsFinite(v))
                continue;
            sum += v;
            count++;
        }

        return count == 0 ? null : sum / count;
    }
}

/// <summary>Curves over epochs.</summary>
internal sealed record EpochSeries
{
    public required double?[] Step { get; init; }

    public required int[] Epoch { get; init; }

    /// <summary>A list a task.</summary>
    public required double?[][] TrainLosses { get; init; }

    /// <summary>A list of metrics a task.</summary>
    public required NamedSeries[][] Validation { get; init; }

    public static EpochSeries From(RunReportModel model)
    {
        List<EpochEvent> epochs = model.Epochs;
        return new()
        {
            Step = [.. epochs.Select(e => (double?)e.Step)],
            Epoch = [.. epochs.Select(e => e.Epoch)],
            TrainLosses = [.. model.Started.Tasks.Select((_, t) => RunReportSeries.Finite(epochs.Select(e => e.TrainLosses[t])))],
            Validation = [.. model.Started.Tasks.Select(task => MetricsOf(task, epochs))],
        };
    }

    private static NamedSeries[] MetricsOf(string task, List<EpochEvent> epochs)
    {
        TaskMetrics?[] measured = [.. epochs.Select(e => e.Validation.FirstOrDefault(m => m.Task == task))];
        IEnumerable<string> names = measured.SelectMany(m => m?.Metrics.Select(v => v.Name) ?? []).Distinct();
        return [.. names.Select(name => new NamedSeries(name, [.. measured.Select(m => m?.Metrics.FirstOrDefault(v => v.Name == name)?.Value)]))];
    }
}

/// <summary>Source-generated serialisation; the default encoder escapes what could end a script element.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(RunReportSeries))]
internal sealed partial class RunReportJson : JsonSerializerContext;
