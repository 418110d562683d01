using System.CommandLine;

namespace CudaMoE.Cli.Commands;

/// <summary>Macro graphs; the work is in its subcommands.</summary>
internal sealed class GraphCommand : CliCommand
{
    public GraphCommand()
        : base(
            "graph",
            "Build, update and inspect the macro graph of a mgoe model.",
            "cudamoe graph build --events log.csv --task view --task buy --to shop.graph",
            "cudamoe graph inspect shop.graph")
    {
        Add(new GraphBuildCommand());
        Add(new GraphUpdateCommand());
        Add(new GraphInspectCommand());
        Add(new GraphSamplesCommand());
        Add(new GraphGenerateCommand());
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation) =>
        throw new UsageException("graph needs to know what to do", "cudamoe graph build makes a macro graph");
}
