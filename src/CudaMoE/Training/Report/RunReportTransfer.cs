using System.Globalization;

namespace CudaMoE.Training;

/// <summary>The section that sets each task beside runs that train it alone.</summary>
internal static class RunReportTransfer
{
    /// <summary>The table, and a sentence for each task that is worse.</summary>
    public static void Write(HtmlText page, IReadOnlyList<TaskTransfer> tasks)
    {
        page.Raw("<p>Test metrics, mean \u00b1 standard deviation over the runs given. A task is marked as negative transfer when it is worse than the runs that train it alone by more than both deviations together.</p>\n")
            .Raw("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Tasks beside single-task runs\"><table>\n<thead><tr><th scope=\"col\">Task</th><th scope=\"col\">Metric</th>")
            .Raw("<th scope=\"col\" class=\"number\">This model</th><th scope=\"col\" class=\"number\">Task alone</th><th scope=\"col\" class=\"number\">Gain</th><th scope=\"col\">Verdict</th></tr></thead>\n<tbody>\n");
        foreach (TaskTransfer task in tasks)
        {
            (string mark, string verdict) = Verdict(task);
            page.Raw("<tr><th scope=\"row\">").Text(task.Task).Raw("</th><td>").Text(HtmlText.MetricLabel(task.Metric)).Raw("</td><td class=\"number\">")
                .Text(Value(task.Mean, task.Deviation, task.Runs)).Raw("</td><td class=\"number\">").Text(Value(task.BaselineMean, task.BaselineDeviation, task.BaselineRuns))
                .Raw("</td><td class=\"number\">").Text(Signed(task.Gain)).Raw($"</td><td class=\"{mark}\">").Text(verdict).Raw("</td></tr>\n");
        }

        page.Raw("</tbody></table></div>\n");
        foreach (TaskTransfer task in tasks.Where(task => task.Worse))
            page.Raw("<p class=\"note bad\">").Text(Sentence(task)).Raw("</p>\n");
    }

    /// <summary>What is said of a task that is worse: by how much, and with which task it conflicts.</summary>
    public static string Sentence(TaskTransfer task)
    {
        string metric = task.Metric.Replace('_', ' ');
        string loss = string.Create(CultureInfo.InvariantCulture, $"Negative transfer: {task.Task} is worse than alone by {HtmlText.Number(-task.Gain)} in {metric}, beyond the spread of {HtmlText.Number(task.Spread ?? 0)}.");
        if (task.Conflict is not { } pair)
            return $"{loss} The runs looked at no gradients: training.balancer.observe_every shows with which task it conflicts.";
        string other = pair.First == task.Task ? pair.Second : pair.First;
        return string.Create(CultureInfo.InvariantCulture, $"{loss} Its gradient goes least with that of {other}: mean cosine {pair.MeanCosine:+0.000;-0.000;0.000}, below 0 in {100 * pair.Conflicts:0} % of {pair.Steps:N0} steps.");
    }

    private static (string Mark, string Text) Verdict(TaskTransfer task) => task switch
    {
        { Worse: true } => ("bad", "worse: negative transfer"),
        { Spread: null, Gain: < 0 } => ("open", "lower; one run each, spread not known"),
        { Spread: null } => ("open", "not lower; one run each, spread not known"),
        { Spread: { } spread } when task.Gain > spread => ("good", "better"),
        _ => ("", "within the spread"),
    };

    private static string Value(double mean, double? deviation, int runs) => HtmlText.Number(mean) + (deviation is { } spread ? $" \u00b1 {HtmlText.Number(spread)}" : "") + (runs == 1 ? " (1 run)" : $" ({runs} runs)");

    private static string Signed(double value) => value < 0 ? $"-{HtmlText.Number(-value)}" : $"+{HtmlText.Number(value)}";
}
