using System.CommandLine;
using CudaMoE.Training;

namespace CudaMoE.Cli.Commands;

/// <summary>Makes a run's report again from its log.</summary>
internal sealed class ReportCommand : CliCommand
{
    private readonly Argument<string> _folder = new("RUN_FOLDER") { Description = "The folder of a run, finished or not" };

    private readonly Option<string?> _to = new("--to") { HelpName = "FILE", Description = "Where to write it; default: report.html in the run folder" };

    private readonly Option<string[]> _baseline = new("--baseline")
    {
        HelpName = "RUN_FOLDER",
        Description = "Runs that train single tasks, of one seed or more: tasks that are worse than alone are marked",
        AllowMultipleArgumentsPerToken = true,
    };

    private readonly Option<string[]> _seeds = new("--seeds")
    {
        HelpName = "RUN_FOLDER",
        Description = "Further seeds of the run, for its spread beside --baseline",
        AllowMultipleArgumentsPerToken = true,
    };

    public ReportCommand()
        : base(
            "report",
            "Make the HTML report of a run again from its log.",
            "cudamoe report runs/census-20260102-030405",
            "cudamoe report runs/census-20260102-030405 --to census.html",
            "cudamoe report runs/census-1 --seeds runs/census-2 --baseline runs/single-1 runs/single-2")
    {
        Add(_folder);
        Add(_to);
        Add(_baseline);
        Add(_seeds);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        RunFolder folder = RunFolder.Open(arguments.GetRequiredValue(_folder));
        IReadOnlyList<TaskTransfer> transfer = Compare(folder, arguments.GetValue(_seeds) ?? [], arguments.GetValue(_baseline) ?? []);
        string path = RunReport.Write(folder, arguments.GetValue(_to) is { } to ? Path.GetFullPath(to) : folder.ReportPath, transfer);
        string[] worse = [.. transfer.Where(task => task.Worse).Select(task => task.Task)];
        if (context.Format == OutputFormat.Json)
            context.WriteJson(new() { Report = path, NegativeTransfer = transfer.Count == 0 ? null : worse }, CliJson.Default.ReportResult);
        else
            context.WriteRaw($"{path}\n{(worse.Length == 0 ? "" : $"negative transfer: {string.Join(", ", worse)}\n")}");
        return ExitCodes.Ok;
    }

    private static IReadOnlyList<TaskTransfer> Compare(RunFolder folder, string[] seeds, string[] baselines)
    {
        if (baselines.Length == 0)
            return seeds.Length == 0 ? [] : throw new UsageException("--seeds are compared with single-task runs; give those with --baseline");
        return RunComparison.Of([Log(folder), .. seeds.Select(seed => Log(RunFolder.Open(seed)))], [.. baselines.Select(baseline => Log(RunFolder.Open(baseline)))]);
    }

    private static IReadOnlyList<RunEvent> Log(RunFolder folder) => RunLogReader.Read(folder.MetricsPath);
}
