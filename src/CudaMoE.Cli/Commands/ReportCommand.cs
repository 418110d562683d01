using System.CommandLine;
using CudaMoE.Training;

namespace CudaMoE.Cli.Commands;

/// <summary>Makes a run's report again from its log.</summary>
internal sealed class ReportCommand : CliCommand
{
    private readonly Argument<string> _folder = new("RUN_FOLDER") { Description = "The folder of a run, finished or not" };

    private readonly Option<string?> _to = new("--to") { HelpName = "FILE", Description = "Where to write it; default: report.html in the run folder" };

    public ReportCommand()
        : base(
            "report",
            "Make the HTML report of a run again from its log.",
            "cudamoe report runs/census-20260102-030405",
            "cudamoe report runs/census-20260102-030405 --to census.html")
    {
        Add(_folder);
        Add(_to);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        RunFolder folder = RunFolder.Open(arguments.GetRequiredValue(_folder));
        string path = RunReport.Write(folder, arguments.GetValue(_to) is { } to ? Path.GetFullPath(to) : folder.ReportPath);
        if (context.Format == OutputFormat.Json)
            context.WriteJson(new() { Report = path }, CliJson.Default.ReportResult);
        else
            context.WriteRaw($"{path}\n");
        return ExitCodes.Ok;
    }
}
