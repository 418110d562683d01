using CudaMoE.Training;
using Spectre.Console;

namespace CudaMoE.Cli.Rendering;

/// <summary>Metrics per task as a table, with the reasons of undefined ones below.</summary>
internal static class MetricsTable
{
    /// <summary>Writes the table to standard output.</summary>
    public static void Write(CliContext context, IReadOnlyList<TaskMetrics> tasks)
    {
        string[] names = [.. tasks.SelectMany(t => t.Metrics.Select(m => m.Name)).Distinct()];
        Table table = Texts.NewTable(["Task", "#Rows", .. names.Select(n => "#" + n.Replace('_', ' '))]);
        foreach (TaskMetrics task in tasks)
            table.AddTexts([task.Task, Texts.Count(task.Rows), .. names.Select(name => Cell(task.Metrics.FirstOrDefault(m => m.Name == name)))]);
        context.WriteTable(table);
        foreach (IGrouping<(string Name, string Reason), string> reason in Reasons(tasks))
            context.WriteRaw($"{reason.Key.Name.Replace('_', ' ')} of {string.Join(", ", reason)} is undefined: {reason.Key.Reason}\n");
    }

    private static string Cell(MetricValue? metric) => metric is null ? "" : metric.Value is { } value ? Texts.Number(value) : "undefined";

    private static IEnumerable<IGrouping<(string Name, string Reason), string>> Reasons(IReadOnlyList<TaskMetrics> tasks) => tasks
        .SelectMany(t => t.Metrics.Where(m => m.Value is null).Select(m => (t.Task, m.Name, Reason: m.Undefined ?? "no reason was given")))
        .GroupBy(u => (u.Name, u.Reason), u => u.Task);
}
