using CudaMoE.Description;
using CudaMoE.Training;

namespace CudaMoE.Cli.Experiments;

/// <summary>A metric over the seeds.</summary>
/// <param name="Mean">Mean; null when no seed has a value.</param>
/// <param name="Deviation">Standard deviation of the sample; null for fewer than two values.</param>
/// <param name="Worse">Whether it is worse than the baseline's mean by more than both deviations together: negative transfer.</param>
internal sealed record SummaryValue(double? Mean, double? Deviation, bool Worse);

/// <summary>A model with a balancer over the seeds.</summary>
internal sealed record SummaryRow
{
    public required string Model { get; init; }

    public required string Balancer { get; init; }

    /// <summary>Seeds that have a result.</summary>
    public required int Runs { get; init; }

    public required int Failed { get; init; }

    public required long Parameters { get; init; }

    public required double SamplesPerSecond { get; init; }

    /// <summary>Mean relative improvement over the baseline in percent, above 0 = better; null without a baseline, and for it.</summary>
    public double? DeltaP { get; init; }

    /// <summary>The first metric of each task.</summary>
    public required IReadOnlyList<SummaryValue> Tasks { get; init; }

    /// <summary>How the tasks' gradients lay to each other, over the steps of all seeds; empty when no run looked at gradients.</summary>
    public required IReadOnlyList<TaskPair> Pairs { get; init; }
}

/// <summary>All rows of an experiment.</summary>
internal sealed record ExperimentSummary
{
    public required string Name { get; init; }

    public required int Cells { get; init; }

    public string? Baseline { get; init; }

    /// <summary>The tasks.</summary>
    public required IReadOnlyList<string> Tasks { get; init; }

    /// <summary>Task and metric of each column.</summary>
    public required IReadOnlyList<string> Columns { get; init; }

    public required IReadOnlyList<SummaryRow> Rows { get; init; }

    /// <summary>Sums up the results there are.</summary>
    public static ExperimentSummary Of(ExperimentFile file, IReadOnlyList<ExperimentCell> cells, IReadOnlyList<CellResult> results)
    {
        IReadOnlyList<TaskDescription> tasks = cells[0].Model.Tasks;
        MetricInfo[] metrics = [.. tasks.Select(task => MetricCatalog.Of(task.Type).First())];
        SummaryRow? baseline = null;
        List<SummaryRow> rows = [];
        IEnumerable<(string Model, string Balancer)> keys = cells.Select(cell => (cell.ModelName, cell.Balancer)).Distinct()
            .OrderBy(key => key.ModelName == file.Baseline ? 0 : 1);
        foreach ((string model, string balancer) in keys)
        {
            CellResult[] all = [.. results.Where(result => result.Model == model && result.Balancer == balancer)];
            CellResult[] done = [.. all.Where(result => result.Status != "failed")];
            SummaryValue[] values = [.. tasks.Select((task, t) => Value(done, task.Name, metrics[t], baseline?.Tasks[t]))];
            SummaryRow row = new()
            {
                Model = model,
                Balancer = balancer,
                Runs = done.Length,
                Failed = all.Length - done.Length,
                Parameters = done.FirstOrDefault()?.Parameters ?? 0,
                SamplesPerSecond = done.Length == 0 ? 0 : done.Average(result => result.SamplesPerSecond),
                DeltaP = baseline is null ? null : DeltaP(values, baseline.Tasks, metrics),
                Tasks = values,
                Pairs = TaskPair.Together(done.SelectMany(result => result.Pairs)),
            };
            if (model == file.Baseline)
                baseline = row;
            rows.Add(row);
        }

        return new()
        {
            Name = file.Name,
            Cells = cells.Count,
            Baseline = file.Baseline,
            Tasks = [.. tasks.Select(task => task.Name)],
            Columns = [.. tasks.Select((task, t) => $"{task.Name} {metrics[t].Name}")],
            Rows = rows,
        };
    }

    private static SummaryValue Value(CellResult[] results, string task, MetricInfo metric, SummaryValue? baseline)
    {
        double[] values =
        [
            .. results.Select(result => result.Test.FirstOrDefault(t => t.Task == task)?.Metrics.FirstOrDefault(m => m.Name == metric.Name)?.Value)
                .OfType<double>(),
        ];
        if (values.Length == 0)
            return new(null, null, false);
        double mean = values.Average();
        double? deviation = values.Length < 2 ? null : Math.Sqrt(values.Sum(value => (value - mean) * (value - mean)) / (values.Length - 1));
        double loss = baseline?.Mean is { } other ? (metric.HigherIsBetter == true ? other - mean : mean - other) : 0;
        bool worse = deviation is { } own && baseline?.Deviation is { } its && loss > own + its;
        return new(mean, deviation, worse);
    }

    private static double? DeltaP(SummaryValue[] values, IReadOnlyList<SummaryValue> baseline, MetricInfo[] metrics)
    {
        double sum = 0;
        for (int t = 0; t < values.Length; t++)
        {
            if (values[t].Mean is not { } mean || baseline[t].Mean is not { } its || its == 0)
                return null;
            double gain = (mean - its) / its;
            sum += metrics[t].HigherIsBetter == true ? gain : -gain;
        }

        return 100 * sum / values.Length;
    }
}
