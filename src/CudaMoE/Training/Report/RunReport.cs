using System.Net;
using System.Text;
using System.Text.Json;
using CudaMoE.Checkpoints;

namespace CudaMoE.Training;

/// <summary>
/// Writes the report of a run: one HTML file that holds its data, its style and its chart library (Chart.js), and loads nothing. It is made
/// from the run log alone, so it can be made again at any time, also for a run that was killed or is still going on.
/// </summary>
public static class RunReport
{
    /// <summary>Writes <c>report.html</c> into the run folder, in place of the one that may be there.</summary>
    /// <returns>The path of the report.</returns>
    /// <exception cref="RunLogException">The log cannot be read, has no run in it, or the report cannot be written.</exception>
    public static string Write(RunFolder folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        return Write(folder, folder.ReportPath);
    }

    /// <summary>Writes the report of a run to <paramref name="path"/>.</summary>
    /// <param name="folder">The run.</param>
    /// <param name="path">The file.</param>
    /// <param name="transfer">The tasks beside single-task runs, see <see cref="RunComparison.Of"/>; null or empty = the report has no such section.</param>
    /// <inheritdoc cref="Write(RunFolder)"/>
    public static string Write(RunFolder folder, string path, IReadOnlyList<TaskTransfer>? transfer = null)
    {
        ArgumentNullException.ThrowIfNull(folder);
        string html = Build(RunLogReader.Read(folder.MetricsPath), transfer);
        try
        {
            AtomicFile.Write(path, Encoding.UTF8.GetBytes(html));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new RunLogException($"cannot write the report {path}: {e.Message}", e);
        }

        return path;
    }

    /// <summary>The report as HTML.</summary>
    /// <param name="events">The run log, see <see cref="RunLogReader.Read"/>.</param>
    /// <param name="transfer">The tasks beside single-task runs; null or empty = the report has no such section.</param>
    /// <exception cref="RunLogException">There is no <see cref="RunStartedEvent"/>.</exception>
    public static string Build(IReadOnlyList<RunEvent> events, IReadOnlyList<TaskTransfer>? transfer = null)
    {
        ArgumentNullException.ThrowIfNull(events);
        RunReportModel model = RunReportModel.From(events);
        HtmlText page = new();
        page.Raw($"""
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta name="color-scheme" content="light dark">
            <meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
            <title>{WebUtility.HtmlEncode(model.Started.Name)} - CudaMoE run</title>
            <style>
            {Resource("report.css")}
            </style>
            </head>
            <body>

            """);
        RunReportSections.Write(page, model, transfer ?? []);
        page.Raw($"""
            <script type="application/json" id="run-data">{JsonSerializer.Serialize(RunReportSeries.From(model), RunReportJson.Default.RunReportSeries)}</script>
            <script>
            {Resource("chart.min.js")}
            </script>
            <script>
            {Resource("report.js")}
            </script>
            </body>
            </html>

            """);
        return page.ToString();
    }

    internal static string Resource(string name)
    {
        using Stream stream = typeof(RunReport).Assembly.GetManifestResourceStream($"report/{name}")
            ?? throw new InvalidOperationException($"the assembly lacks report/{name}");
        using StreamReader reader = new(stream, Encoding.UTF8);
        return reader.ReadToEnd();
    }
}
