using CudaMoE.Cli.Rendering;
using Spectre.Console;

namespace CudaMoE.Cli.Encoders;

/// <summary>Shows how far an encoder is: a bar in a terminal, a line every ten seconds elsewhere.</summary>
/// <param name="context">Where to write.</param>
/// <param name="count">How many there are; null = not known.</param>
/// <param name="what">Of what.</param>
internal sealed class EncodeProgress(CliContext context, long? count, string what)
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(10);
    private readonly long _began = context.Clock.GetTimestamp();
    private TimeSpan _told;

    /// <summary>Runs <paramref name="work"/> with what takes its progress.</summary>
    public void Show(Action<Action<long>> work)
    {
        if (!context.Log.Profile.Capabilities.Interactive || !context.Log.Profile.Capabilities.Ansi)
        {
            work(Line);
            return;
        }

        context.Log.Progress().AutoClear(true).Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn { Width = 30 }, new PercentageColumn()).Start(bars =>
        {
            ProgressTask bar = bars.AddTask(what, maxValue: count ?? 1);
            bar.IsIndeterminate = count is null;
            work(done =>
            {
                bar.Description = Describe(done);
                bar.Value = count is null ? 0 : done;
            });
        });
    }

    private void Line(long done)
    {
        TimeSpan elapsed = context.Clock.GetElapsedTime(_began);
        if (elapsed - _told < Interval)
            return;
        _told = elapsed;
        context.Note($"{Describe(done)}, {Texts.Duration(elapsed)}");
    }

    private string Describe(long done) => count is null ? $"{Texts.Count(done)} {what}" : $"{Texts.Count(done)} of {Texts.Count(count.Value)} {what}";
}
