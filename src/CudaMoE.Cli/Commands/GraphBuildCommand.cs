using System.CommandLine;
using System.Diagnostics;
using CudaMoE.Cli.Graphs;
using CudaMoE.Graphs;

namespace CudaMoE.Cli.Commands;

/// <summary>Builds a macro graph.</summary>
internal sealed class GraphBuildCommand : CliCommand
{
    private static readonly MacroGraphOptions Defaults = new() { Log = new() { Sources = [] }, Tasks = [] };

    private readonly LogOptions _log = new();

    private readonly Option<string> _to = new("--to") { HelpName = "FILE", Description = "The graph file to write", Required = true };

    private readonly Option<string[]> _tasks = new("--task") { HelpName = "NAME", Description = "A task: an event, or a label column; as often as needed", Required = true };

    private readonly Option<bool> _ordered = new("--ordered") { Description = "The tasks are given from the least to the most valuable; else the rarer one is the more valuable" };

    private readonly Option<double> _beta = Number("--beta", "Exponent of the merging score, -4 to 4; 0 is the logarithm", Defaults.Beta);

    private readonly Option<double> _tau = Number("--tau", "Temperature of the macro weights, 0.01 to 100", Defaults.Tau);

    private readonly Option<int> _userNodes = Whole("--user-nodes", "Macro nodes of users", Defaults.UserNodes);

    private readonly Option<int> _itemNodes = Whole("--item-nodes", "Macro nodes of items", Defaults.ItemNodes);

    private readonly Option<int> _iterations = Whole("--iterations", "Passes of k-means at most", Defaults.Iterations);

    private readonly Option<int> _threads = Whole("--threads", "Threads; 0 = all processors. The file does not depend on it", Defaults.Threads);

    private readonly Option<ulong> _seed = new("--seed") { HelpName = "N", Description = "Seed of projection and clustering", DefaultValueFactory = _ => Defaults.Seed };

    public GraphBuildCommand()
        : base(
            "build",
            "Build a macro graph from logs of interactions. Logs are streamed; memory grows with users and items only.",
            "cudamoe graph build --events log.csv --task view --task buy --time time --to shop.graph",
            "cudamoe graph build --lists cart=cart.txt --lists buy=buy.txt.gz --task cart --task buy --user-nodes 50 --to shop.graph")
    {
        Add(_to);
        Add(_tasks);
        _log.AddTo(this);
        foreach (Option option in new Option[] { _ordered, _beta, _tau, _userNodes, _itemNodes, _iterations, _seed, _threads })
            Add(option);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        long started = Stopwatch.GetTimestamp();
        MacroGraphOptions options = new()
        {
            Log = _log.Of(arguments),
            Tasks = arguments.GetRequiredValue(_tasks),
            TasksInOrder = arguments.GetValue(_ordered),
            Beta = arguments.GetValue(_beta),
            Tau = arguments.GetValue(_tau),
            UserNodes = arguments.GetValue(_userNodes),
            ItemNodes = arguments.GetValue(_itemNodes),
            Iterations = arguments.GetValue(_iterations),
            Seed = arguments.GetValue(_seed),
            Threads = arguments.GetValue(_threads),
        };
        string path = Path.GetFullPath(arguments.GetRequiredValue(_to));
        MacroGraphInfo info = new GraphProgressView(context).Show(progress => MacroGraphBuilder.Build(options, path, progress, cancellation));
        GraphAnswer.Write(context, path, info, Stopwatch.GetElapsedTime(started).TotalSeconds);
        return ExitCodes.Ok;
    }

    private static Option<double> Number(string name, string description, double custom) => new(name) { HelpName = "NUMBER", Description = description, DefaultValueFactory = _ => custom };

    private static Option<int> Whole(string name, string description, int custom) => new(name) { HelpName = "N", Description = description, DefaultValueFactory = _ => custom };
}
