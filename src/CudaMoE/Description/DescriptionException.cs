namespace CudaMoE.Description;

/// <summary>A model description is wrong. The message names the key by its path, the value, and what to write instead.</summary>
public sealed class DescriptionException : CudaMoEException
{
    /// <summary>Creates it.</summary>
    public DescriptionException(string message)
        : base(message)
    {
    }

    /// <summary>Creates it with the cause.</summary>
    public DescriptionException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
