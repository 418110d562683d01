using System.Globalization;
using System.Text;
using CudaMoE.Description;
using CudaMoE.Streaming;

namespace CudaMoE.Cli.Streams;

/// <summary>The table of a stream: a row a window, metrics times 100.</summary>
internal static class StreamReport
{
    /// <summary>Titles of the columns.</summary>
    public static IReadOnlyList<string> Columns { get; } =
        ["window", "sequences", "epochs", "HR@10", "NDCG@10", "HR@20", "NDCG@20", "experts", "parameters", "trained", "own NDCG@10", "at the end"];

    /// <summary>The rows: windows, then the mean.</summary>
    public static IEnumerable<string[]> Rows(StreamResult result)
    {
        for (int i = 0; i < result.Windows.Count; i++)
        {
            StreamWindowResult window = result.Windows[i];
            yield return
            [
                Count(window.Window),
                Count(window.TrainSequences),
                $"{window.BestEpoch}/{window.Epochs}",
                .. Metrics(window.Test),
                string.Join(' ', window.Experts.Values),
                Count(window.Parameters),
                Count(window.TrainedParameters),
                window.Validation is null ? "" : Percent(window.Validation.Ndcg10),
                i < result.Retained.Count && result.Retained[i] is { } now ? Percent(now.Ndcg10) : "",
            ];
        }

        if (result.Mean is not null)
            yield return ["mean", "", "", .. Metrics(result.Mean), "", "", "", "", ""];
    }

    /// <summary>A share times 100.</summary>
    public static string Percent(double share) => (100 * share).ToString("0.00", CultureInfo.InvariantCulture);

    /// <summary>The report of a run.</summary>
    public static string Markdown(StreamDescription description, StreamResult result)
    {
        StringBuilder text = new();
        text.Append(CultureInfo.InvariantCulture, $"# {description.Name}\n\n");
        text.Append("Each window is trained and then tested on the whole next one: full ranking, items that the user has met left out, metrics times 100. ");
        text.Append(CultureInfo.InvariantCulture, $"Experts are those of {string.Join(", ", result.Windows.Count == 0 ? [] : result.Windows[0].Experts.Keys)}. ");
        text.Append("\"Own NDCG@10\" is on the last events of the window itself, right after it and with the weights of the end of the stream.\n\n");
        text.Append("| ").AppendJoin(" | ", Columns).Append(" |\n");
        text.Append("| --- |").Append(string.Concat(Enumerable.Repeat(" ---: |", Columns.Count - 1))).Append('\n');
        foreach (string[] row in Rows(result))
            text.Append("| ").AppendJoin(" | ", row).Append(" |\n");
        if (result.Forgetting is { } forgetting)
            text.Append(CultureInfo.InvariantCulture, $"\nForgetting: {Percent(forgetting)} points of NDCG@10, the mean over the windows but the last of what was lost on their own last events by the end.\n");
        return text.ToString();
    }

    private static string[] Metrics(RankingMetrics? metrics) =>
        metrics is null ? ["", "", "", ""] : [Percent(metrics.HitRate10), Percent(metrics.Ndcg10), Percent(metrics.HitRate20), Percent(metrics.Ndcg20)];

    private static string Count(long value) => value.ToString(CultureInfo.InvariantCulture);
}
