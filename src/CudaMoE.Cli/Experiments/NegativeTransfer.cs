using System.Globalization;
using CudaMoE.Training;

namespace CudaMoE.Cli.Experiments;

/// <summary>What an experiment says of tasks that are worse than the baseline's: with which task they conflict, and with which balancers they are not worse.</summary>
internal static class NegativeTransfer
{
    /// <summary>One sentence or more for each marked value, in the order of rows and columns.</summary>
    public static IEnumerable<string> Notes(ExperimentSummary summary)
    {
        foreach (SummaryRow row in summary.Rows)
        {
            for (int task = 0; task < summary.Columns.Count; task++)
            {
                if (row.Tasks[task].Worse)
                    yield return $"Negative transfer (!): {row.Model} with {row.Balancer} is worse than {summary.Baseline} by more than both deviations in {summary.Columns[task]}.{Conflict(summary, row, task)}{Remedy(summary, row, task)}";
            }
        }
    }

    /// <summary>The pair with the least mean cosine that the task is in; of the row's runs, or where they saw no gradients, of the same model's with another balancer.</summary>
    private static string Conflict(ExperimentSummary summary, SummaryRow row, int task)
    {
        string name = summary.Tasks[task];
        foreach (SummaryRow seen in new[] { row }.Concat(summary.Rows.Where(other => other.Model == row.Model && other != row)))
        {
            TaskPair? worst = seen.Pairs.Where(pair => pair.First == name || pair.Second == name).MinBy(pair => pair.MeanCosine);
            if (worst is null)
                continue;
            string other = worst.First == name ? worst.Second : worst.First;
            string where = seen == row ? "" : $" with {seen.Balancer}";
            return string.Create(
                CultureInfo.InvariantCulture,
                $" Its gradient goes least with that of {other}{where}: mean cosine {worst.MeanCosine:+0.000;-0.000;0.000}, below 0 in {100 * worst.Conflicts:0} % of {worst.Steps:N0} steps.");
        }

        return " Its runs looked at no gradients: training.balancer.observe_every shows with which task it conflicts.";
    }

    private static string Remedy(ExperimentSummary summary, SummaryRow row, int task)
    {
        SummaryRow[] others = [.. summary.Rows.Where(other => other.Model == row.Model && other != row && other.Tasks[task].Deviation is not null)];
        if (others.Length == 0)
            return "";
        string[] better = [.. others.Where(other => !other.Tasks[task].Worse).Select(other => other.Balancer)];
        return better.Length == 0 ? $" So it is with all other balancers ({string.Join(", ", others.Select(other => other.Balancer))})." : $" Not so with {string.Join(", ", better)}.";
    }
}
