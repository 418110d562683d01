using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using CudaMoE.Training;

namespace CudaMoE.Benchmarking;

/// <summary>The results of <see cref="BalancerBenchmark"/> as a Markdown table and as a page with a plot.</summary>
public static class BalancerCostReport
{
    private const string Script = """
        'use strict';
        const data = JSON.parse(document.getElementById('data').textContent);
        const colours = ['#5b5b5b', '#0072b2', '#56b4e9', '#00825f', '#d55e00', '#b3478a', '#9a6a00'];
        Chart.defaults.font.size = 14;
        new Chart(document.getElementById('plot'), {
          type: 'line',
          data: {
            labels: data.tasks,
            datasets: data.lines.map((line, i) => ({ label: line.name, data: line.ratios, borderColor: colours[i % colours.length], backgroundColor: colours[i % colours.length], borderDash: i > 3 ? [6, 3] : [], pointRadius: 4 })),
          },
          options: {
            animation: false,
            responsive: false,
            plugins: { legend: { position: 'bottom' } },
            scales: {
              x: { title: { display: true, text: 'tasks' } },
              y: { min: 0, title: { display: true, text: 'training samples/s, equal weights = 1' } },
            },
          },
        });
        """;

    /// <summary>A row a number of tasks: samples a second of equal weights, then each balancer's ratio to it, median and range.</summary>
    public static string Markdown(IReadOnlyList<BalancerCost> costs)
    {
        ArgumentNullException.ThrowIfNull(costs);
        string[] names = [.. costs.Select(cost => cost.Name).Distinct()];
        StringBuilder text = new($"| tasks | {names[0]}, samples/s |{string.Concat(names.Skip(1).Select(name => $" {name} |"))}\n");
        text.Append($"| ---: |{string.Concat(names.Select(_ => " ---: |"))}\n");
        foreach (IGrouping<int, BalancerCost> group in costs.GroupBy(cost => cost.Tasks))
        {
            text.Append(CultureInfo.InvariantCulture, $"| {group.Key} | {group.First().SamplesPerSecond:N0} |");
            foreach (BalancerCost cost in group.Skip(1))
                text.Append(CultureInfo.InvariantCulture, $" {cost.Ratio:F2} ({cost.Least:F2} to {cost.Most:F2}) |");
            text.Append('\n');
        }

        return text.ToString();
    }

    /// <summary>One HTML file with the table's ratios as lines over the number of tasks; it holds its chart library and loads nothing.</summary>
    public static string Html(IReadOnlyList<BalancerCost> costs, string title)
    {
        ArgumentNullException.ThrowIfNull(costs);
        CostPlot plot = new(
            [.. costs.Select(cost => cost.Tasks).Distinct()],
            [.. costs.GroupBy(cost => cost.Name).Select(group => new CostLine(group.Key, [.. group.Select(cost => cost.Ratio)]))]);
        return $"""
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
            <title>{WebUtility.HtmlEncode(title)}</title>
            <style>body {"{"} font: 15px system-ui, sans-serif; margin: 16px; background: #fff; color: #222 {"}"}</style>
            </head>
            <body>
            <h1 style="font-size:17px">{WebUtility.HtmlEncode(title)}</h1>
            <canvas id="plot" width="940" height="480"></canvas>
            <script type="application/json" id="data">{JsonSerializer.Serialize(plot, CostJson.Default.CostPlot)}</script>
            <script>
            {RunReport.Resource("chart.min.js")}
            </script>
            <script>
            {Script}
            </script>
            </body>
            </html>

            """;
    }
}

/// <summary>What the plot's script reads.</summary>
internal sealed record CostPlot(IReadOnlyList<int> Tasks, IReadOnlyList<CostLine> Lines);

/// <summary>A line of the plot.</summary>
internal sealed record CostLine(string Name, IReadOnlyList<double> Ratios);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(CostPlot))]
internal sealed partial class CostJson : JsonSerializerContext;
