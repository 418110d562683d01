namespace CudaMoE.Training;

/// <summary>A run folder or its log cannot be used; the message names the file and, where there is one, the line.</summary>
public sealed class RunLogException : CudaMoEException
{
    /// <summary>Creates it.</summary>
    public RunLogException(string message)
        : base(message)
    {
    }

    /// <summary>Creates it with the cause.</summary>
    public RunLogException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
