using System.Collections.Concurrent;
using System.Globalization;
using CudaMoE.Training;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace CudaMoE.Cli.Rendering;

/// <summary>
/// Shows a run on standard error: a live bar with loss, samples a second and time left in a terminal; lines at milestones elsewhere. What
/// stays (epochs, checkpoints, warnings) is written as lines in both.
/// </summary>
internal sealed class TrainingView : ITrainingObserver
{
    private static readonly TimeSpan LineEvery = TimeSpan.FromSeconds(15);
    private static readonly TimeSpan BarEvery = TimeSpan.FromMilliseconds(100);

    private readonly CliContext _context;
    private readonly bool _live;
    private readonly ConcurrentDictionary<int, string> _facts = [];
    private RunStartedEvent? _started;
    private ProgressContext? _bars;
    private ProgressTask? _bar;
    private ProgressTask? _side;
    private string? _phase;
    private long _lastShown;
    private long _firstStep;
    private long _trainingStart;
    private int _milestone;

    public TrainingView(CliContext context)
    {
        _context = context;
        _live = context.Log.Profile.Capabilities.Interactive && context.Log.Profile.Capabilities.Ansi;
        _lastShown = context.Clock.GetTimestamp();
    }

    /// <summary>The run's folder, once it stands.</summary>
    public string? RunFolder { get; private set; }

    /// <summary>Runs <paramref name="work"/> with this view around it.</summary>
    public T Show<T>(Func<T> work)
    {
        if (!_live)
            return work();
        return _context.Log.Progress()
            .AutoClear(true)
            .HideCompleted(true)
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn { Width = 30 }, new PercentageColumn(), new FactsColumn(_facts))
            .Start(context =>
            {
                _bars = context;
                return work();
            });
    }

    public void OnDataProgress(in DataProgress progress)
    {
        string text = $"data: {progress.Phase} {Path.GetFileName(progress.File)}";
        if (_live)
            ShowSide(text, progress.Fraction, $"{Texts.Count(progress.Rows)} rows");
        else if (text != _phase)
            _context.Note(text);
        _phase = text;
    }

    public void OnNotice(string notice) => _context.Note($"notice: {notice}");

    public void OnStarted(string runFolder, RunStartedEvent started) => Begin(runFolder, started, step: 0, resumed: "");

    public void OnResumed(string runFolder, RunStartedEvent started, RunResumedEvent resumed) =>
        Begin(runFolder, started, resumed.Step, $" after step {Texts.Count(resumed.Step)}");

    public void OnProgress(in TrainingProgress progress)
    {
        HideSide();
        if (_live)
        {
            if (!Due(BarEvery) && progress.Step < progress.Steps)
                return;
            string text = $"epoch {progress.Epoch}/{progress.Epochs}";
            _bar ??= _bars!.AddTask(text, maxValue: Math.Max(1, progress.Steps));
            _bar.Description = text;
            _bar.Value = progress.Step;
            _facts[_bar.Id] = Facts(progress);
            return;
        }

        // Every tenth of an epoch, but no more often than every few seconds.
        int milestone = (int)(progress.Step * 10 / Math.Max(1, _started?.StepsPerEpoch ?? 1));
        if (milestone == _milestone || !Due(LineEvery))
            return;
        _milestone = milestone;
        _context.Note($"epoch {progress.Epoch}/{progress.Epochs}  step {progress.Step}/{progress.Steps}  {Facts(progress)}");
    }

    public void OnEvaluationProgress(in EvaluationProgress progress)
    {
        if (_live)
            ShowSide(progress.Split, (double)progress.Rows / Math.Max(1, progress.TotalRows), $"{Texts.Count(progress.Rows)} rows");
    }

    public void OnEpoch(EpochEvent epoch)
    {
        HideSide();
        string losses = string.Join(' ', epoch.TrainLosses.Select(l => double.IsNaN(l) ? "undefined" : Texts.Number(l)));
        string score = epoch.Score is { } value ? $"  score {Texts.Number(value)}{(epoch.Best ? " (best)" : "")}" : "";
        _context.Note($"epoch {epoch.Epoch}: loss {losses}{score}{Validation(epoch.Validation)}  {Texts.Count((long)epoch.SamplesPerSecond)} samples/s  {Texts.Duration(TimeSpan.FromSeconds(epoch.TrainSeconds + epoch.ValidationSeconds))}");
    }

    public void OnEnded(RunEndedEvent ended)
    {
        HideSide();
        if (ended.Status is RunStatus.EarlyStopped or RunStatus.Cancelled && ended.Message is not null)
            _context.Note(ended.Message);
        foreach (string note in ended.DeviceNotes ?? [])
            _context.Note($"warning: {note}");
    }

    private void Begin(string runFolder, RunStartedEvent started, long step, string resumed)
    {
        HideSide();
        _started = started;
        _firstStep = step;
        _trainingStart = _context.Clock.GetTimestamp();
        RunFolder = runFolder;
        _context.Note($"{started.Name}{resumed}: {started.Architecture}, {Texts.Count(started.DenseParameters + started.EmbeddingParameters)} parameters, tasks {string.Join(", ", started.Tasks)}");
        _context.Note($"{Texts.Count(started.TrainRows)} training rows, {Texts.Count(started.ValidationRows)} validation, {Texts.Count(started.TestRows)} test; balancer {started.Balancer}");
        _context.Note($"{started.Device}, {started.Level}, {started.Threads} threads");
        _context.Note($"run folder {runFolder}");
    }

    private string Facts(in TrainingProgress progress)
    {
        string loss = double.IsNaN(progress.Loss) ? "" : $"loss {Texts.Number(progress.Loss)}  ";
        string left = "";
        if (progress.Step > _firstStep)
        {
            // Validation is part of the time a step takes, so that the estimate holds for the whole run.
            TimeSpan spent = _context.Clock.GetElapsedTime(_trainingStart);
            left = $"  {Texts.Duration(spent * ((double)(progress.Steps - progress.Step) / (progress.Step - _firstStep)))} left";
        }

        return string.Create(CultureInfo.InvariantCulture, $"{loss}{Texts.Count((long)progress.SamplesPerSecond)} samples/s{left}");
    }

    private static string Validation(IReadOnlyList<TaskMetrics> tasks) =>
        string.Concat(tasks.Select(t => t.Metrics.Count == 0
            ? ""
            : $"  {t.Task} {t.Metrics[0].Name} {(t.Metrics[0].Value is { } value ? Texts.Number(value) : "undefined")}"));

    private void ShowSide(string text, double fraction, string facts)
    {
        string shown = Markup.Escape(text);
        if (_bars is null || (_side is not null && _side.Description == shown && !Due(BarEvery)))
            return;
        _side ??= _bars.AddTask(shown, maxValue: 1);
        _side.Description = shown;
        _side.Value = Math.Clamp(fraction, 0, 1);
        _facts[_side.Id] = facts;
    }

    private void HideSide()
    {
        if (_side is null)
            return;
        _side.Value = 1;
        _side.StopTask();
        _side = null;
    }

    private bool Due(TimeSpan every)
    {
        if (_context.Clock.GetElapsedTime(_lastShown) < every)
            return false;
        _lastShown = _context.Clock.GetTimestamp();
        return true;
    }

    /// <summary>The text behind a bar.</summary>
    private sealed class FactsColumn(ConcurrentDictionary<int, string> facts) : ProgressColumn
    {
        protected override bool NoWrap => true;

        public override IRenderable Render(RenderOptions options, ProgressTask task, TimeSpan deltaTime) => new Text(facts.GetValueOrDefault(task.Id, ""));
    }
}
