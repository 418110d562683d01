using CudaMoE.Cli.Rendering;
using CudaMoE.Graphs;
using Spectre.Console;

namespace CudaMoE.Cli.Graphs;

/// <summary>Shows how far a graph is: a bar in a terminal, a line at the start of each stage elsewhere.</summary>
internal sealed class GraphProgressView(CliContext context)
{
    private GraphStage? _stage;

    /// <summary>Runs <paramref name="work"/> with what takes its progress.</summary>
    public T Show<T>(Func<Action<GraphProgress>, T> work)
    {
        if (!context.Log.Profile.Capabilities.Interactive || !context.Log.Profile.Capabilities.Ansi)
            return work(Line);
        return context.Log.Progress().AutoClear(true).Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn { Width = 30 }, new PercentageColumn()).Start(bars =>
        {
            ProgressTask bar = bars.AddTask("", maxValue: 1);
            return work(progress =>
            {
                bar.Description = $"{Name(progress.Stage)}, {Texts.Count(progress.Interactions)} interactions";
                bar.Value = progress.Done;
            });
        });
    }

    private void Line(GraphProgress progress)
    {
        if (_stage == progress.Stage)
            return;
        _stage = progress.Stage;
        context.Note($"{Name(progress.Stage)}{(progress.Interactions > 0 ? $", {Texts.Count(progress.Interactions)} interactions" : "")}");
    }

    private static string Name(GraphStage stage) => stage.ToString().ToLowerInvariant();
}
