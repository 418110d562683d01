using System.CommandLine;
using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Cli.Rendering;
using CudaMoE.Cli.Streams;
using CudaMoE.Description;
using CudaMoE.Streaming;
using Spectre.Console;

namespace CudaMoE.Cli.Commands;

/// <summary>Trains a model on a stream, window after window.</summary>
internal sealed class StreamCommand : CliCommand
{
    private readonly Argument<string?> _file = new("STREAM.json") { Description = "The stream file: log, modalities, model, growth, training", Arity = ArgumentArity.ZeroOrOne };

    private readonly Option<string> _to = new("--to")
    {
        HelpName = "FOLDER",
        Description = "Where windows and reports are written; the same folder again goes on behind its last finished window",
        DefaultValueFactory = _ => "stream",
    };

    private readonly Option<int?> _until = new("--until") { HelpName = "W", Description = "Stop behind window W instead of the last one" };

    private readonly Option<int?> _rollback = new("--rollback")
    {
        HelpName = "W",
        Description = "Delete the folder's windows behind window W (0 = all) and stop; the next run goes on behind it",
    };

    private readonly Option<string[]> _set = new("--set")
    {
        HelpName = "KEY=VALUE",
        Description = "Any key of the stream file by its path, as often as needed, e.g. growth.expand=false or training.seed=2",
    };

    private readonly Option<bool> _schema = new("--schema") { Description = "Print the JSON schema of stream files, and train nothing" };

    private readonly Option<string> _device = DeviceOption();

    public StreamCommand()
        : base(
            "stream",
            "Train XSMoE on a log of interactions, window after window: train, test on the next window, prune and add experts. Each window leaves a checkpoint; a run that was killed goes on behind the last one with the same bits.",
            "cudamoe stream movielens.json --to runs/movielens",
            "cudamoe stream movielens.json --to runs/movielens --rollback 4",
            "cudamoe stream movielens.json --to runs/fixed --set growth.expand=false --output json > fixed.json",
            "cudamoe stream --schema > stream.schema.json")
    {
        Add(_file);
        Add(_to);
        Add(_until);
        Add(_rollback);
        Add(_set);
        Add(_schema);
        Add(_device);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        if (arguments.GetValue(_schema))
        {
            context.WriteRaw(DescriptionSchema.PublishedStream);
            return ExitCodes.Ok;
        }

        string path = arguments.GetValue(_file) ?? throw new UsageException("stream needs a stream file", "'cudamoe stream --help' shows how to call it");
        StreamDescription description = ModelFile.LoadStream(path, ModelFile.Overrides(arguments.GetValue(_set) ?? []));
        string folder = Path.GetFullPath(arguments.GetRequiredValue(_to));
        int last = description.Data.Windows - 1;
        CheckWindow("--until", arguments.GetValue(_until), 1, last);
        CheckWindow("--rollback", arguments.GetValue(_rollback), 0, last);
        if (arguments.GetValue(_rollback) is { } window)
        {
            StreamTrainer.RollBack(description, folder, window);
            if (context.Format == OutputFormat.Json)
                context.WriteJson(new() { Folder = folder, Window = window }, CliJson.Default.RollbackResult);
            else
                context.Note($"{folder} is rolled back to window {window}");
            return ExitCodes.Ok;
        }

        StreamOptions options = new() { Device = arguments.GetRequiredValue(_device), Folder = folder, Until = arguments.GetValue(_until) };
        StreamResult result = new StreamProgress(context, description).Show(observer => StreamTrainer.Run(description, options, observer, cancellation));
        string report = Path.Combine(folder, "report.md");
        AtomicFile.Write(report, Encoding.UTF8.GetBytes(StreamReport.Markdown(description, result)));
        Answer(context, result, report);
        return ExitCodes.Ok;
    }

    private static void CheckWindow(string option, int? window, int least, int most)
    {
        if (window is { } given && (given < least || given > most))
            throw new UsageException($"{option} is {given}; it must be {least} to {most}, the last window that trains");
    }

    private static void Answer(CliContext context, StreamResult result, string report)
    {
        if (context.Format == OutputFormat.Json)
        {
            context.WriteJson(result, CliJson.Default.StreamResult);
            return;
        }

        Table table = Texts.NewTable([.. StreamReport.Columns.Select((title, i) => i == 0 ? title : "#" + title)]);
        foreach (string[] row in StreamReport.Rows(result))
            table.AddTexts(row);
        context.WriteTable(table);
        if (result.Forgetting is { } forgetting)
            context.WriteRaw($"forgetting (NDCG@10, points) {StreamReport.Percent(forgetting)}\n");
        context.WriteRaw($"report {report}\n");
    }
}
