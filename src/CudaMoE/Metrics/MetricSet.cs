using System.Globalization;
using CudaMoE.Description;

namespace CudaMoE.Metrics;

/// <summary>The accumulators of all tasks of a model.</summary>
/// <param name="tasks">One a task, in the order of the tasks.</param>
public sealed class MetricSet(IReadOnlyList<TaskAccumulator> tasks)
{
    /// <summary>One a task, in the order of the tasks.</summary>
    public IReadOnlyList<TaskAccumulator> Tasks { get; } = tasks;

    /// <summary>Computes the metrics of every task.</summary>
    public IReadOnlyList<TaskMetrics> Compute() => [.. Tasks.Select(task => task.Compute())];

    /// <summary>Forgets all rows.</summary>
    public void Reset()
    {
        foreach (TaskAccumulator task in Tasks)
            task.Reset();
    }

    /// <summary>
    /// The one number that early stopping watches: a task's metric ("task/auc"), or the weighted mean over the tasks that have it ("auc").
    /// Undefined when one that counts is undefined.
    /// </summary>
    public static MetricValue Summarize(IReadOnlyList<TaskMetrics> metrics, EarlyStoppingDescription stopping)
    {
        string name = stopping.Metric;
        int slash = name.IndexOf('/', StringComparison.Ordinal);
        string metric = name[(slash + 1)..];
        double sum = 0;
        double total = 0;
        for (int i = 0; i < metrics.Count; i++)
        {
            double weight = stopping.TaskWeights is { } weights ? weights[i] : 1;
            if ((slash >= 0 && metrics[i].Task != name[..slash]) || weight == 0 || metrics[i].Find(metric) is not { } found)
                continue;
            if (found.Value is not { } value)
                return MetricValue.None(name, string.Create(CultureInfo.InvariantCulture, $"{metrics[i].Task}/{metric} is undefined: {found.Undefined}"));
            sum += weight * value;
            total += weight;
        }

        return total > 0 ? MetricValue.Of(name, sum / total) : MetricValue.None(name, "no task has it");
    }

    /// <summary>Whether a value of that metric ("auc", "task/auc") is better the higher it is.</summary>
    /// <exception cref="ArgumentException">The metric is not known or has no direction.</exception>
    public static bool HigherIsBetter(string metric) =>
        MetricCatalog.Find(metric[(metric.IndexOf('/', StringComparison.Ordinal) + 1)..])?.HigherIsBetter
        ?? throw new ArgumentException($"\"{metric}\" is no metric that can be watched", nameof(metric));
}
