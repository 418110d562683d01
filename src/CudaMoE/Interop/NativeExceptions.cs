namespace CudaMoE;

/// <summary>The native library reported an error; the message is the library's own.</summary>
public class NativeException : CudaMoEException
{
    /// <summary>Creates it.</summary>
    public NativeException(string message)
        : base(message)
    {
    }
}

/// <summary>An argument of a native operation broke a rule of the header.</summary>
public sealed class NativeArgumentException(string message) : NativeException(message);

/// <summary>The backend does not have what was asked for.</summary>
public sealed class NativeUnsupportedException(string message) : NativeException(message);

/// <summary>Device or host memory could not be had.</summary>
public sealed class DeviceOutOfMemoryException(string message) : NativeException(message);

/// <summary>A device or its driver failed, or no usable device was found.</summary>
public sealed class DeviceException(string message) : NativeException(message);

/// <summary>An operation met bad data, e.g. an embedding row out of bounds.</summary>
public sealed class ReportedDataException(string message) : NativeException(message);

/// <summary>The native library is missing or of another version. The message lists every file that was tried and the command that builds it.</summary>
public sealed class NativeLibraryException : CudaMoEException
{
    /// <summary>Creates it.</summary>
    public NativeLibraryException(string message)
        : base(message)
    {
    }

    /// <summary>Creates it with the cause.</summary>
    public NativeLibraryException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
