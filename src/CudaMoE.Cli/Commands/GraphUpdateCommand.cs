using System.CommandLine;
using System.Diagnostics;
using CudaMoE.Cli.Graphs;
using CudaMoE.Graphs;

namespace CudaMoE.Cli.Commands;

/// <summary>Adds interactions to a macro graph.</summary>
internal sealed class GraphUpdateCommand : CliCommand
{
    private readonly Argument<string> _graph = new("GRAPH") { Description = "The graph file" };

    private readonly LogOptions _log = new();

    private readonly Option<string?> _to = new("--to") { HelpName = "FILE", Description = "The file to write, instead of the graph itself" };

    private readonly Option<int> _threads = new("--threads") { HelpName = "N", Description = "Threads; 0 = all processors. The file does not depend on it" };

    public GraphUpdateCommand()
        : base(
            "update",
            "Add new interactions to a macro graph: known nodes keep their macro nodes, new ones get the nearest, counts equal a new count.",
            "cudamoe graph update shop.graph --events today.csv",
            "cudamoe graph update shop.graph --lists buy=new.txt --to newer.graph")
    {
        Add(_graph);
        Add(_to);
        _log.AddTo(this);
        Add(_threads);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        long started = Stopwatch.GetTimestamp();
        string path = Path.GetFullPath(arguments.GetRequiredValue(_graph));
        string to = arguments.GetValue(_to) is { } other ? Path.GetFullPath(other) : path;
        MacroGraphInfo info = new GraphProgressView(context).Show(progress =>
        {
            using MacroGraph graph = MacroGraph.Open(path, progress, cancellation);
            return MacroGraphUpdater.Update(graph, _log.Of(arguments), to, arguments.GetValue(_threads), progress, cancellation);
        });
        GraphAnswer.Write(context, to, info, Stopwatch.GetElapsedTime(started).TotalSeconds);
        return ExitCodes.Ok;
    }
}
