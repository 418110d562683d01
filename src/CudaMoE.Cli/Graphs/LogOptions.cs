using System.CommandLine;
using CudaMoE.Description;
using CudaMoE.Graphs;

namespace CudaMoE.Cli.Graphs;

/// <summary>The options that say where interactions are and how they are written.</summary>
internal sealed class LogOptions
{
    private readonly Option<string[]> _events = Files("--events", "FILE", "A delimited file; a row is an interaction of the task that its event column names, other events are passed over");

    private readonly Option<string[]> _labels = Files("--labels", "FILE", "A delimited file with a column of each task's name; a number above 0 is an interaction");

    private readonly Option<string[]> _rows = Files("--rows", "TASK=FILE", "A delimited file all rows of which are interactions of one task");

    private readonly Option<string[]> _lists = Files("--lists", "TASK=FILE", "A file of lines \"user item item ...\" of one task");

    private readonly Option<string> _user = Column("--user", "user", "Column of the user's id");

    private readonly Option<string> _item = Column("--item", "item", "Column of the item's id");

    private readonly Option<string> _event = Column("--event", "event", "Column of the event");

    private readonly Option<string?> _time = new("--time") { HelpName = "COLUMN", Description = "Column of a number that grows with time; without it the whole log counts" };

    private readonly Option<double> _until = new("--until")
    {
        HelpName = "PART",
        Description = "With --time: the first part of the timeline that counts, above 0 and at most 1",
        DefaultValueFactory = _ => 0.8,
    };

    private readonly Option<string> _separator = new("--separator") { HelpName = "CHARACTER", Description = "Between the fields of delimited files; tab is a tab", DefaultValueFactory = _ => "," };

    public void AddTo(Command command)
    {
        foreach (Option option in new Option[] { _events, _labels, _rows, _lists, _user, _item, _event, _time, _until, _separator })
            command.Add(option);
    }

    /// <summary>The log that the command line describes.</summary>
    public InteractionLog Of(ParseResult arguments)
    {
        List<InteractionSource> sources = [];
        foreach (string path in arguments.GetValue(_events) ?? [])
            sources.Add(new(Path.GetFullPath(path), InteractionKind.Events));
        foreach (string path in arguments.GetValue(_labels) ?? [])
            sources.Add(new(Path.GetFullPath(path), InteractionKind.Labels));
        foreach (string given in arguments.GetValue(_rows) ?? [])
            sources.Add(OfTask("--rows", given, InteractionKind.Task));
        foreach (string given in arguments.GetValue(_lists) ?? [])
            sources.Add(OfTask("--lists", given, InteractionKind.Lists));
        if (sources.Count == 0)
            throw new UsageException("there is no file of interactions", "--events, --labels, --rows or --lists names one");
        string separator = arguments.GetRequiredValue(_separator);
        return new()
        {
            Sources = sources,
            Format = new FileFormat { Separator = separator == "tab" ? "\t" : separator },
            UserColumn = arguments.GetRequiredValue(_user),
            ItemColumn = arguments.GetRequiredValue(_item),
            EventColumn = arguments.GetRequiredValue(_event),
            TimeColumn = arguments.GetValue(_time),
            TimeFraction = arguments.GetValue(_until),
        };
    }

    private static InteractionSource OfTask(string option, string given, InteractionKind kind)
    {
        int equals = given.IndexOf('=', StringComparison.Ordinal);
        return equals < 1
            ? throw new UsageException($"{option} {given} has no TASK=FILE")
            : new(Path.GetFullPath(given[(equals + 1)..]), kind, given[..equals]);
    }

    private static Option<string[]> Files(string name, string help, string description) => new(name) { HelpName = help, Description = description + "; as often as needed" };

    private static Option<string> Column(string name, string custom, string description) => new(name) { HelpName = "COLUMN", Description = description, DefaultValueFactory = _ => custom };
}
