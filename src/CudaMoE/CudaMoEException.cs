namespace CudaMoE;

/// <summary>The base of all errors that this library raises on purpose.</summary>
public class CudaMoEException : Exception
{
    /// <summary>Creates it.</summary>
    public CudaMoEException(string message)
        : base(message)
    {
    }

    /// <summary>Creates it with the cause.</summary>
    public CudaMoEException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
