using System.CommandLine;
using CudaMoE.Checkpoints;
using CudaMoE.Cli.Rendering;
using CudaMoE.Training;

namespace CudaMoE.Cli.Commands;

/// <summary>What <c>train</c> and <c>resume</c> share: the view, the report, the answer.</summary>
internal abstract class RunCommand : CliCommand
{
    protected RunCommand(string name, string description, params string[] examples)
        : base(name, description, examples)
    {
        Device = DeviceOption();
        NoReport = new("--no-report") { Description = "Write no HTML report at the end" };
        LogEvery = new("--log-every") { HelpName = "STEPS", Description = "Steps between two lines of the run log. Default: about fifty an epoch" };
        KeepCheckpoints = new("--keep-checkpoints")
        {
            HelpName = "N",
            Description = "Checkpoints kept beside the best one",
            DefaultValueFactory = _ => new TrainerOptions().KeepCheckpoints,
        };
    }

    protected Option<string> Device { get; }

    protected Option<bool> NoReport { get; }

    protected Option<long?> LogEvery { get; }

    protected Option<int> KeepCheckpoints { get; }

    protected TrainerOptions TrainerOptionsOf(ParseResult arguments)
    {
        if (arguments.GetValue(LogEvery) is < 1)
            throw new UsageException($"--log-every is {arguments.GetValue(LogEvery)}; it must be at least 1");
        if (arguments.GetValue(KeepCheckpoints) < 1)
            throw new UsageException($"--keep-checkpoints is {arguments.GetValue(KeepCheckpoints)}; it must be at least 1");
        return new() { Device = arguments.GetRequiredValue(Device), LogEvery = arguments.GetValue(LogEvery), KeepCheckpoints = arguments.GetValue(KeepCheckpoints) };
    }

    /// <summary>Runs the training with its view, writes the report, also of a run that failed, and answers.</summary>
    protected int Execute(ParseResult arguments, CliContext context, Func<ITrainingObserver, TrainingResult> train)
    {
        TrainingView view = new(context);
        bool report = !arguments.GetValue(NoReport);
        TrainingResult result;
        try
        {
            result = view.Show(() => train(view));
        }
        catch (Exception e) when (view.RunFolder is not null && e is not OperationCanceledException)
        {
            if (report && WriteReport(context, view.RunFolder) is { } path)
                context.Note($"report {path}");
            if (e is NonFiniteException && new CheckpointStore(RunFolder.Open(view.RunFolder).CheckpointsPath).OpenLatest() is { } good)
                context.Note($"the last good checkpoint is {good.Folder}; 'cudamoe train --parameters' starts from its {CheckpointFolder.WeightsFile} with other settings");
            throw;
        }

        string? written = report ? WriteReport(context, result.RunFolder) : null;
        Answer(context, result, written);
        return result.Status == RunStatus.Cancelled ? ExitCodes.Cancelled : report && written is null ? ExitCodes.Failed : ExitCodes.Ok;
    }

    // A report that cannot be written must hide neither the results nor why a run failed.
    private static string? WriteReport(CliContext context, string runFolder)
    {
        try
        {
            return RunReport.Write(RunFolder.Open(runFolder));
        }
        catch (RunLogException e)
        {
            context.Note($"error: {e.Message}");
            return null;
        }
    }

    private static void Answer(CliContext context, TrainingResult result, string? report)
    {
        if (context.Format == OutputFormat.Json)
        {
            context.WriteJson(
                new()
                {
                    Status = result.Status,
                    RunFolder = result.RunFolder,
                    Steps = result.Steps,
                    Checkpoint = result.CheckpointPath,
                    Report = report,
                    Test = result.Test,
                },
                CliJson.Default.TrainResult);
            return;
        }

        if (result.Test.Count > 0)
            MetricsTable.Write(context, result.Test);
        if (result.Status == RunStatus.Cancelled)
            context.Note($"cancelled after {Texts.Count(result.Steps)} steps; go on with: cudamoe resume {Texts.Argument(result.RunFolder)}");
        if (result.CheckpointPath is not null)
            context.WriteRaw($"checkpoint {result.CheckpointPath}\n");
        if (report is not null)
            context.WriteRaw($"report {report}\n");
    }
}
