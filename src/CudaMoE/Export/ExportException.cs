namespace CudaMoE.Export;

/// <summary>A model cannot be exported; the message says what of it cannot, and why.</summary>
public sealed class ExportException : CudaMoEException
{
    /// <summary>Creates it.</summary>
    public ExportException(string message)
        : base(message)
    {
    }
}
