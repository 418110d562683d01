using System.CommandLine;
using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Cli.Experiments;
using CudaMoE.Cli.Rendering;
using CudaMoE.Training;
using Spectre.Console;

namespace CudaMoE.Cli.Commands;

/// <summary>Trains a matrix of models, balancers and seeds and compares them.</summary>
internal sealed class ExperimentCommand : CliCommand
{
    private readonly Argument<string> _file = new("EXPERIMENT.json") { Description = "The experiment file: models, balancers, seeds" };

    private readonly Option<string> _to = new("--to")
    {
        HelpName = "FOLDER",
        Description = "Where cells and reports are written; the same folder again goes on with what is not finished",
        DefaultValueFactory = _ => "experiments",
    };

    private readonly Option<bool> _list = new("--list") { Description = "Check all model files, name the cells, and train nothing" };

    private readonly Option<string> _device = DeviceOption();

    public ExperimentCommand()
        : base(
            "experiment",
            "Train every model of a file with every balancer and seed, and write one report with means, deviations and the gain on a baseline. Run again, it keeps finished cells and goes on with the others.",
            "cudamoe experiment census.json --to experiments/census",
            "cudamoe experiment census.json --list",
            "cudamoe experiment census.json --device cpu:threads=8 --output json > summary.json")
    {
        Add(_file);
        Add(_to);
        Add(_list);
        Add(_device);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        string path = arguments.GetRequiredValue(_file);
        ExperimentFile file = ExperimentFile.Load(path);
        IReadOnlyList<ExperimentCell> cells = file.Cells(path);
        if (arguments.GetValue(_list))
        {
            if (context.Format == OutputFormat.Json)
                context.WriteJson(new() { Cells = [.. cells.Select(cell => cell.Name)] }, CliJson.Default.ExperimentCellsResult);
            else
                context.WriteRaw(string.Concat(cells.Select(cell => cell.Name + "\n")));
            return ExitCodes.Ok;
        }

        string folder = Path.GetFullPath(arguments.GetRequiredValue(_to));
        TrainerOptions options = new() { Device = arguments.GetRequiredValue(_device), KeepCheckpoints = 1 };
        List<CellResult> results = [];
        bool whole = new CellProgress(context, cells.Count).Show(progress => RunAll(cells, folder, options, results, progress, context, cancellation));
        ExperimentSummary summary = ExperimentSummary.Of(file, cells, results);
        string markdown = Path.Combine(folder, "report.md");
        string html = Path.Combine(folder, "report.html");
        Directory.CreateDirectory(folder);
        AtomicFile.Write(markdown, Encoding.UTF8.GetBytes(ExperimentReport.Markdown(summary)));
        AtomicFile.Write(html, Encoding.UTF8.GetBytes(ExperimentReport.Html(summary)));
        Answer(context, summary, markdown, html);
        return !whole ? ExitCodes.Cancelled : results.Any(result => result.Status == "failed") ? ExitCodes.Failed : ExitCodes.Ok;
    }

    /// <summary>Runs what is not finished; false when cancelled.</summary>
    private static bool RunAll(
        IReadOnlyList<ExperimentCell> cells, string folder, TrainerOptions options, List<CellResult> results, CellProgress progress, CliContext context, CancellationToken cancellation)
    {
        foreach (ExperimentCell cell in cells)
        {
            CellRunner runner = new(Path.Combine(folder, "cells", cell.Name), cell, options);
            CellResult? result = runner.Finished();
            bool kept = result is not null;
            if (!kept)
            {
                if (cancellation.IsCancellationRequested)
                    return false;
                progress.Begin(cell.Name);
                result = runner.Run(progress, context.Note, cancellation);
            }

            if (result is null)
                return false;
            results.Add(result);
            progress.End(cell.Name, kept ? "kept" : result.Status, result.Message);
        }

        return true;
    }

    private static void Answer(CliContext context, ExperimentSummary summary, string markdown, string html)
    {
        if (context.Format == OutputFormat.Json)
        {
            context.WriteJson(new() { Summary = summary, Markdown = markdown, Html = html }, CliJson.Default.ExperimentResult);
            return;
        }

        Table table = Texts.NewTable([.. ExperimentReport.Header(summary).Select((title, i) => i < 2 ? title : "#" + title)]);
        foreach (SummaryRow row in summary.Rows)
            table.AddTexts([.. ExperimentReport.Cells(summary, row)]);
        context.WriteTable(table);
        context.WriteRaw($"report {markdown}\nreport {html}\n");
    }
}
