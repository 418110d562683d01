namespace CudaMoE.Cli;

/// <summary>The user asked for something that cannot be; the message says what, the hint what to do instead.</summary>
internal sealed class UsageException(string message, string? hint = null) : CudaMoEException(message)
{
    /// <summary>What to do instead; null when the message says it.</summary>
    public string? Hint { get; } = hint;
}
