using System.CommandLine;

namespace CudaMoE.Cli;

/// <summary>A command of the tool, with examples for its help. <see cref="CliApplication"/> runs it with streams, cancellation and error printing.</summary>
internal abstract class CliCommand : Command
{
    protected CliCommand(string name, string description, params string[] examples)
        : base(name, description)
    {
        Examples = examples;
    }

    /// <summary>Command lines for the help.</summary>
    public IReadOnlyList<string> Examples { get; }

    /// <summary>Does the work and returns the exit code; errors are thrown.</summary>
    public abstract int Run(ParseResult arguments, CliContext context, CancellationToken cancellation);

    /// <summary>An option that takes the name of a device.</summary>
    protected static Option<string> DeviceOption() => new("--device")
    {
        HelpName = "DEVICE",
        Description = "Where to compute: auto, cpu, cpu:threads=N, cuda:N or simt; 'cudamoe devices' lists them. The environment variable "
            + "CUDAMOE_DEVICE sets another default",
        DefaultValueFactory = _ => Environment.GetEnvironmentVariable("CUDAMOE_DEVICE") is { Length: > 0 } device ? device : "auto",
    };
}
