namespace CudaMoE.Cli;

/// <summary>Exit codes of the tool; docs/cli.md documents them.</summary>
internal static class ExitCodes
{
    /// <summary>Done.</summary>
    public const int Ok = 0;

    /// <summary>What was asked for failed while it ran.</summary>
    public const int Failed = 1;

    /// <summary>The command line, a model file, a data file or a checkpoint is wrong.</summary>
    public const int Usage = 2;

    /// <summary>The machine lacks something: the native library, a device, memory.</summary>
    public const int Environment = 3;

    /// <summary>Cancelled by Ctrl-C or a termination signal.</summary>
    public const int Cancelled = 130;
}
