using CudaMoE.Description;

namespace CudaMoE.Training;

/// <summary>A task's first test metric beside that of runs that train the task alone.</summary>
public sealed record TaskTransfer
{
    /// <summary>The task.</summary>
    public required string Task { get; init; }

    /// <summary>The metric, e.g. "auc".</summary>
    public required string Metric { get; init; }

    /// <summary>Runs of the model that measured it.</summary>
    public required int Runs { get; init; }

    /// <summary>Their mean.</summary>
    public required double Mean { get; init; }

    /// <summary>Standard deviation of the sample; null for one run.</summary>
    public double? Deviation { get; init; }

    /// <summary>Single-task runs that measured it.</summary>
    public required int BaselineRuns { get; init; }

    /// <summary>Their mean.</summary>
    public required double BaselineMean { get; init; }

    /// <summary>Standard deviation of the sample; null for one run.</summary>
    public double? BaselineDeviation { get; init; }

    /// <summary>How much better the model is than the single-task runs, in the metric's unit; below 0 = worse.</summary>
    public required double Gain { get; init; }

    /// <summary>Both deviations together, that of a single run counted as 0; null when neither is known.</summary>
    public double? Spread => Deviation is null && BaselineDeviation is null ? null : (Deviation ?? 0) + (BaselineDeviation ?? 0);

    /// <summary>Whether it is worse by more than the spread: negative transfer. False where the spread is not known.</summary>
    public bool Worse => Spread is { } spread && Gain < -spread;

    /// <summary>The pair with the least mean cosine that the task is in; null when the runs looked at no gradients.</summary>
    public TaskPair? Conflict { get; init; }
}

/// <summary>What a model's runs lose or gain against runs that train each task alone; runs of several seeds on either side say what their spread is.</summary>
public static class RunComparison
{
    /// <summary>Compares the first test metric of each task.</summary>
    /// <param name="runs">Logs of runs of one model, of one seed or more.</param>
    /// <param name="baselines">Logs of single-task runs: of one task each or of several, of one seed or more.</param>
    /// <returns>The tasks, in the order of the model's, that both sides have measured.</returns>
    /// <exception cref="RunLogException">A log has no test, or the two sides have no task and metric in common.</exception>
    public static IReadOnlyList<TaskTransfer> Of(IReadOnlyList<IReadOnlyList<RunEvent>> runs, IReadOnlyList<IReadOnlyList<RunEvent>> baselines)
    {
        ArgumentNullException.ThrowIfNull(runs);
        ArgumentNullException.ThrowIfNull(baselines);
        TestEvent[] tests = [.. runs.Select(TestOf)];
        TestEvent[] singles = [.. baselines.Select(TestOf)];
        IReadOnlyList<TaskPair> pairs = TaskPair.Together(runs.SelectMany(log => log.OfType<EpochEvent>()).SelectMany(epoch => epoch.Pairs ?? []));
        List<TaskTransfer> tasks = [];
        foreach (string task in tests.SelectMany(test => test.Metrics.Select(metrics => metrics.Task)).Distinct())
        {
            if (Compare(task, tests, singles, pairs) is { } transfer)
                tasks.Add(transfer);
        }

        return tasks.Count > 0 ? tasks : throw new RunLogException("the runs and the single-task runs have measured no task by one metric; a baseline's tasks must have the names of the run's");
    }

    private static TaskTransfer? Compare(string task, TestEvent[] tests, TestEvent[] singles, IReadOnlyList<TaskPair> pairs)
    {
        foreach (string name in tests.SelectMany(test => MetricsOf(test, task)).Select(metric => metric.Name).Distinct())
        {
            if (MetricCatalog.Find(name)?.HigherIsBetter is not { } higher)
                continue;
            double[] own = Values(tests, task, name);
            double[] alone = Values(singles, task, name);
            if (own.Length == 0 || alone.Length == 0)
                continue;
            double difference = own.Average() - alone.Average();
            return new()
            {
                Task = task,
                Metric = name,
                Runs = own.Length,
                Mean = own.Average(),
                Deviation = Deviation(own),
                BaselineRuns = alone.Length,
                BaselineMean = alone.Average(),
                BaselineDeviation = Deviation(alone),
                Gain = higher ? difference : -difference,
                Conflict = pairs.Where(pair => pair.First == task || pair.Second == task).MinBy(pair => pair.MeanCosine),
            };
        }

        return null;
    }

    private static TestEvent TestOf(IReadOnlyList<RunEvent> log)
    {
        string name = log.OfType<RunStartedEvent>().FirstOrDefault()?.Name ?? throw new RunLogException("the run log has no run_started event, so there is no run to compare");
        return log.OfType<TestEvent>().LastOrDefault() ?? throw new RunLogException($"a run of {name} has not been tested, so its tasks cannot be compared; it needs test rows, and must have ended");
    }

    private static IEnumerable<MetricValue> MetricsOf(TestEvent test, string task) => test.Metrics.Where(metrics => metrics.Task == task).SelectMany(metrics => metrics.Metrics);

    private static double[] Values(TestEvent[] tests, string task, string metric) =>
        [.. tests.SelectMany(test => MetricsOf(test, task)).Where(value => value.Name == metric).Select(value => value.Value).OfType<double>()];

    private static double? Deviation(double[] values)
    {
        double mean = values.Average();
        return values.Length < 2 ? null : Math.Sqrt(values.Sum(value => (value - mean) * (value - mean)) / (values.Length - 1));
    }
}
