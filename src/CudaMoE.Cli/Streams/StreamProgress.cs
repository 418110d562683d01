using System.Globalization;
using CudaMoE.Cli.Rendering;
using CudaMoE.Description;
using CudaMoE.Streaming;
using Spectre.Console;

namespace CudaMoE.Cli.Streams;

/// <summary>Shows a stream on standard error: in a terminal a bar of the windows and one of the epochs; a line at the end of each window everywhere.</summary>
internal sealed class StreamProgress(CliContext context, StreamDescription description) : IStreamObserver
{
    private ProgressTask? _windows;
    private ProgressTask? _epochs;
    private long _began = context.Clock.GetTimestamp();

    /// <summary>Runs <paramref name="work"/> with this view around it.</summary>
    public T Show<T>(Func<IStreamObserver, T> work)
    {
        if (!context.Log.Profile.Capabilities.Interactive || !context.Log.Profile.Capabilities.Ansi)
            return work(this);
        return context.Log.Progress().AutoClear(true).Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn { Width = 30 }, new PercentageColumn()).Start(bars =>
        {
            _windows = bars.AddTask("windows", maxValue: description.Data.Windows - 1);
            _epochs = bars.AddTask("", maxValue: description.Training.Epochs);
            return work(this);
        });
    }

    public void OnStarted(InteractionStream stream, int done)
    {
        context.Note($"{description.Name}: {Texts.Count(stream.Windows.Sum(window => (long)window.Rows.Length))} events of {Texts.Count(stream.Users.Count)} users and {Texts.Count(stream.Items.Count - 1)} items in {stream.Windows.Count} windows");
        if (done > 0)
            context.Note($"going on behind window {done}");
        if (_windows is not null)
            _windows.Value = done;
        _began = context.Clock.GetTimestamp();
    }

    public void OnEncoded(string modality, int done, int count)
    {
        if (_epochs is not null)
        {
            _epochs.Description = $"{modality}: {Texts.Count(done)} of {Texts.Count(count)} items encoded";
            _epochs.MaxValue = done == count ? description.Training.Epochs : count;
            _epochs.Value = done == count ? 0 : done;
        }

        if (done == count)
            context.Note($"{modality}: {Texts.Count(count)} items encoded, {Texts.Duration(context.Clock.GetElapsedTime(_began))}");
    }

    public void OnEpoch(int window, int epoch, double loss, double? ndcg)
    {
        if (_epochs is null)
            return;
        _epochs.Description = string.Create(CultureInfo.InvariantCulture, $"window {window}, epoch {epoch}, loss {loss:0.0000}{(ndcg is null ? "" : $", NDCG@10 {StreamReport.Percent(ndcg.Value)}")}");
        _epochs.Value = epoch;
    }

    public void OnWindow(StreamWindowResult result)
    {
        if (_windows is not null)
            _windows.Value = result.Window;
        string test = result.Test is null ? "no test" : $"test HR@10 {StreamReport.Percent(result.Test.HitRate10)}, NDCG@10 {StreamReport.Percent(result.Test.Ndcg10)}";
        context.Note(
            $"window {result.Window}/{description.Data.Windows - 1}: {Texts.Count(result.TrainSequences)} sequences, best epoch {result.BestEpoch} of {result.Epochs}, {test}, experts {string.Join(' ', result.Experts.Values)}, {Texts.Duration(context.Clock.GetElapsedTime(_began))}");
        _began = context.Clock.GetTimestamp();
    }
}
