using System.CommandLine;
using CudaMoE.Cli.Rendering;
using CudaMoE.Graphs;

namespace CudaMoE.Cli.Commands;

/// <summary>Writes a synthetic log, for trials of size.</summary>
internal sealed class GraphGenerateCommand : CliCommand
{
    private readonly Option<string> _to = new("--to") { HelpName = "FILE", Description = "The CSV file to write", Required = true };

    private readonly Option<long> _interactions = new("--interactions") { HelpName = "N", Description = "Rows", DefaultValueFactory = _ => 1_000_000 };

    private readonly Option<int> _users = new("--users") { HelpName = "N", Description = "Users", DefaultValueFactory = _ => 100_000 };

    private readonly Option<int> _items = new("--items") { HelpName = "N", Description = "Items", DefaultValueFactory = _ => 20_000 };

    private readonly Option<int> _groups = new("--groups") { HelpName = "N", Description = "Groups of users and items that prefer each other", DefaultValueFactory = _ => 20 };

    private readonly Option<ulong> _seed = new("--seed") { HelpName = "N", Description = "Seed", DefaultValueFactory = _ => 1 };

    public GraphGenerateCommand()
        : base(
            "generate",
            "Write a synthetic log with columns user, item, event (view, cart, buy) and time: groups of users that prefer groups of items, and popular items. For trials of size.",
            "cudamoe graph generate --interactions 10000000 --to log.csv")
    {
        foreach (Option option in new Option[] { _to, _interactions, _users, _items, _groups, _seed })
            Add(option);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        string path = Path.GetFullPath(arguments.GetRequiredValue(_to));
        SyntheticLog log = new()
        {
            Interactions = arguments.GetValue(_interactions),
            Users = arguments.GetValue(_users),
            Items = arguments.GetValue(_items),
            Groups = arguments.GetValue(_groups),
            Seed = arguments.GetValue(_seed),
        };
        log.Write(path, cancellation);
        if (context.Format == OutputFormat.Json)
            context.WriteJson(new() { File = path, Interactions = log.Interactions }, CliJson.Default.GraphLogResult);
        else
            context.Note($"{Texts.Count(log.Interactions)} interactions in {path}");
        return ExitCodes.Ok;
    }
}
