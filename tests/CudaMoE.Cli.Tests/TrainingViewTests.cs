using System.Text;
using System.Text.RegularExpressions;
using CudaMoE.Cli.Rendering;
using CudaMoE.Training;
using Spectre.Console;

namespace CudaMoE.Cli.Tests;

public sealed partial class TrainingViewTests
{
    [Fact]
    public void Run_WithoutATerminal_IsShownAsLinesAtMilestones()
    {
        ManualClock clock = new();
        using StringWriter output = new();
        using StringWriter error = new();
        TrainingView view = new(new CliContext(output, error, OutputFormat.Text, verbose: false, clock));

        Assert.Equal(42, view.Show(() => Play(view, clock)));

        Assert.Empty(output.ToString());
        Assert.Equal("runs/toy-1", view.RunFolder);
        Snapshot.Matches(error.ToString(), "training-view");
    }

    [Fact]
    public void Run_InATerminal_IsShownAsABarWithLossSpeedAndTimeLeft()
    {
        ManualClock clock = new();
        using StringWriter output = new();
        using StringWriter error = new();
        IAnsiConsole terminal = AnsiConsole.Create(new()
        {
            Out = new TerminalOutput(error),
            Ansi = AnsiSupport.Yes,
            ColorSystem = ColorSystemSupport.Standard,
            Interactive = InteractionSupport.Yes,
        });
        TrainingView view = new(new CliContext(output, error, OutputFormat.Text, verbose: false, clock, terminal));

        Assert.Equal(42, view.Show(() => Play(view, clock)));

        string text = error.ToString();
        Assert.Empty(output.ToString());
        Assert.Contains("epoch 2/2", text, StringComparison.Ordinal);
        Assert.Matches(@"loss 0\.\d+  2 560 samples/s  [\d.]+ s left", text);
        Assert.Contains("epoch 1: loss 0.5000 undefined", text, StringComparison.Ordinal);
        // The bar of a validation that is done makes room: no frame of the second epoch still has it.
        Assert.DoesNotContain(
            Frames().Split(text),
            frame => frame.Contains("epoch 2/2", StringComparison.Ordinal) && frame.Contains("500 rows", StringComparison.Ordinal));
    }

    // A frame begins by moving the cursor up over the one before.
    [GeneratedRegex(@"\x1b\[\d+A")]
    private static partial Regex Frames();

    /// <summary>Calls a view as a trainer would: two epochs of 100 steps, a second each five.</summary>
    private static int Play(ITrainingObserver view, ManualClock clock)
    {
        view.OnDataProgress(new("fitting", "data/train.csv", 1000, 0.5));
        view.OnDataProgress(new("fitting", "data/train.csv", 2000, 1));
        view.OnDataProgress(new("encoding", "data/train.csv", 2000, 1));
        RunStartedEvent started = new()
        {
            Step = 0,
            Name = "toy",
            Version = "0.1.0",
            Device = "cpu: Example 9000",
            Level = "avx2",
            Threads = 2,
            Architecture = "mmoe",
            Tasks = ["a", "b"],
            Experts = 4,
            DenseParameters = 12_345,
            EmbeddingParameters = 1_000_000,
            TrainRows = 102_400,
            ValidationRows = 1_000,
            TestRows = 0,
            BatchSize = 1024,
            Epochs = 2,
            StepsPerEpoch = 100,
            Seed = 1,
            Balancer = "multi_balance",
            BalancerPlace = "tower_input",
        };
        view.OnStarted("runs/toy-1", started);
        for (int step = 1; step <= 200; step++)
        {
            clock.Advance(TimeSpan.FromSeconds(0.4));
            view.OnProgress(new((step + 99) / 100, 2, step, 200, 2560, step < 3 ? double.NaN : 1.0 / step));
            // Live bars are drawn by a timer.
            if (step % 50 == 0)
                Thread.Sleep(300);
            if (step % 100 != 0)
                continue;
            view.OnEvaluationProgress(new("validation", 500, 1000));
            view.OnEpoch(new()
            {
                Step = step,
                Epoch = step / 100,
                TrainLosses = [0.5, double.NaN],
                Score = 0.75,
                Best = step == 100,
                TrainSeconds = 40,
                ValidationSeconds = 1.5,
                SamplesPerSecond = 2560,
                Validation =
                [
                    new() { Task = "a", Rows = 1000, Metrics = [MetricValue.Of("auc", 0.75), MetricValue.Of("log_loss", 0.4)] },
                    new() { Task = "b", Rows = 0, Metrics = [MetricValue.NotDefined("auc", "no rows")] },
                ],
            });
            view.OnCheckpoint(new() { Step = step, Path = "checkpoints/x" });
        }

        view.OnEnded(new() { Step = 200, Status = RunStatus.EarlyStopped, Message = "auc has not improved for 2 epochs", Seconds = 80 });
        return 42;
    }

    private sealed class TerminalOutput(TextWriter writer) : IAnsiConsoleOutput
    {
        public TextWriter Writer => writer;

        public bool IsTerminal => true;

        public int Width => 120;

        public int Height => 40;

        public void SetEncoding(Encoding encoding)
        {
        }
    }

    private sealed class ManualClock : TimeProvider
    {
        private long _ticks;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => _ticks;

        public void Advance(TimeSpan time) => _ticks += time.Ticks;
    }
}
