using System.Globalization;
using System.Net;
using System.Text;
using CudaMoE.Cli.Rendering;

namespace CudaMoE.Cli.Experiments;

/// <summary>The tables of an experiment as Markdown and as one HTML file that loads nothing.</summary>
internal static class ExperimentReport
{
    private const string Style = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color-scheme:light dark}"
        + "table{border-collapse:collapse}th,td{padding:.3rem .7rem;border-bottom:1px solid #8884;text-align:right;white-space:nowrap}"
        + "th:nth-child(-n+2),td:nth-child(-n+2){text-align:left}.worse{color:#c33;font-weight:600}div{overflow-x:auto}";

    public static IReadOnlyList<string> Header(ExperimentSummary summary) =>
        ["model", "balancer", "runs", .. summary.Columns, .. summary.Baseline is null ? Array.Empty<string>() : ["delta_p %"], "samples/s", "parameters"];

    public static IReadOnlyList<string> Cells(ExperimentSummary summary, SummaryRow row) =>
    [
        row.Model,
        row.Balancer,
        row.Failed == 0 ? Texts.Count(row.Runs) : $"{row.Runs} ({row.Failed} failed)",
        .. row.Tasks.Select(Text),
        .. summary.Baseline is null ? Array.Empty<string>() : [row.DeltaP is { } delta ? delta.ToString("+0.00;-0.00;0.00", CultureInfo.InvariantCulture) : "-"],
        Texts.Count((long)row.SamplesPerSecond),
        Texts.Count(row.Parameters),
    ];

    public static string Markdown(ExperimentSummary summary)
    {
        StringBuilder text = new($"# {summary.Name}\n\n");
        IReadOnlyList<string> header = Header(summary);
        text.Append($"| {string.Join(" | ", header)} |\n|{string.Concat(header.Select((_, i) => i < 2 ? " --- |" : " ---: |"))}\n");
        foreach (SummaryRow row in summary.Rows)
            text.Append($"| {string.Join(" | ", Cells(summary, row))} |\n");
        foreach (string line in Notes(summary))
            text.Append($"\n{line}\n");
        return text.ToString();
    }

    public static string Html(ExperimentSummary summary)
    {
        StringBuilder page = new();
        string title = Escape(summary.Name);
        page.Append("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        page.Append("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n");
        page.Append($"<title>{title} - CudaMoE experiment</title>\n<style>{Style}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<div><table>\n<tr>");
        foreach (string cell in Header(summary))
            page.Append($"<th>{Escape(cell)}</th>");
        page.Append("</tr>\n");
        foreach (SummaryRow row in summary.Rows)
        {
            IReadOnlyList<string> cells = Cells(summary, row);
            page.Append("<tr>");
            for (int i = 0; i < cells.Count; i++)
            {
                bool worse = i >= 3 && i < 3 + row.Tasks.Count && row.Tasks[i - 3].Worse;
                page.Append($"<td{(worse ? " class=\"worse\"" : "")}>{Escape(cells[i])}</td>");
            }

            page.Append("</tr>\n");
        }

        page.Append("</table></div>\n");
        foreach (string line in Notes(summary))
            page.Append($"<p>{Escape(line)}</p>\n");
        return page.Append("</body>\n</html>\n").ToString();
    }

    private static IEnumerable<string> Notes(ExperimentSummary summary)
    {
        yield return "Test metrics: mean ± standard deviation over the seeds.";
        if (summary.Baseline is null)
            yield break;
        yield return $"delta_p: mean over the tasks of the relative improvement on {summary.Baseline}, above 0 = better.";
        foreach (string note in NegativeTransfer.Notes(summary))
            yield return note;
    }

    private static string Text(SummaryValue value) => value.Mean is not { } mean
        ? "-"
        : Texts.Number(mean) + (value.Deviation is { } deviation ? $" ± {Texts.Number(deviation)}" : "") + (value.Worse ? " (!)" : "");

    private static string Escape(string text) => WebUtility.HtmlEncode(text);
}
