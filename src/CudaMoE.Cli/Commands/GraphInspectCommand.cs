using System.CommandLine;
using System.Diagnostics;
using CudaMoE.Cli.Graphs;
using CudaMoE.Graphs;

namespace CudaMoE.Cli.Commands;

/// <summary>Shows what a macro graph holds.</summary>
internal sealed class GraphInspectCommand : CliCommand
{
    private readonly Argument<string> _graph = new("GRAPH") { Description = "The graph file" };

    public GraphInspectCommand()
        : base("inspect", "Check a graph file as a whole and show what it holds.", "cudamoe graph inspect shop.graph --output json") => Add(_graph);

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        long started = Stopwatch.GetTimestamp();
        string path = Path.GetFullPath(arguments.GetRequiredValue(_graph));
        using MacroGraph graph = new GraphProgressView(context).Show(progress => MacroGraph.Open(path, progress, cancellation));
        GraphAnswer.Write(context, path, graph.Info, Stopwatch.GetElapsedTime(started).TotalSeconds);
        return ExitCodes.Ok;
    }
}
