using CudaMoE.Training;
using Spectre.Console;

namespace CudaMoE.Cli.Rendering;

/// <summary>Shows an experiment on standard error: in a terminal a bar of the cells and one of the run that goes on; a line at the end of each cell everywhere.</summary>
internal sealed class CellProgress(CliContext context, int cells) : ITrainingObserver
{
    private readonly HashSet<string> _notices = [];
    private ProgressTask? _all;
    private ProgressTask? _cell;
    private int _done;

    /// <summary>Runs <paramref name="work"/> with this view around it.</summary>
    public T Show<T>(Func<CellProgress, T> work)
    {
        if (!context.Log.Profile.Capabilities.Interactive || !context.Log.Profile.Capabilities.Ansi)
            return work(this);
        return context.Log.Progress().AutoClear(true).Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn { Width = 30 }, new PercentageColumn(), new RemainingTimeColumn()).Start(bars =>
        {
            _all = bars.AddTask("cells", maxValue: cells);
            _cell = bars.AddTask("", maxValue: 1);
            return work(this);
        });
    }

    /// <summary>A cell begins to run.</summary>
    public void Begin(string name)
    {
        if (_cell is null)
            return;
        _cell.Description = Markup.Escape(name);
        _cell.Value = 0;
    }

    /// <summary>A cell is done, or was done before.</summary>
    public void End(string name, string status, string? message)
    {
        _done++;
        if (_all is not null)
            _all.Value = _done;
        context.Note($"{_done}/{cells} {name}: {status}{(message is null ? "" : $", {message}")}");
    }

    public void OnNotice(string notice)
    {
        // Cells of the same data have the same ones.
        if (_notices.Add(notice))
            context.Note($"notice: {notice}");
    }

    public void OnProgress(in TrainingProgress progress)
    {
        if (_cell is not null)
            _cell.Value = (double)progress.Step / progress.Steps;
    }
}
