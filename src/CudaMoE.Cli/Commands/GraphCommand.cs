using System.CommandLine;

namespace CudaMoE.Cli.Commands;

/// <summary>The commands about macro graphs.</summary>
internal sealed class GraphCommand : Command
{
    public GraphCommand()
        : base("graph", "Build, update and inspect the macro graph of a mgoe model.")
    {
        Add(new GraphBuildCommand());
        Add(new GraphUpdateCommand());
        Add(new GraphInspectCommand());
        Add(new GraphSamplesCommand());
        Add(new GraphGenerateCommand());
    }
}
