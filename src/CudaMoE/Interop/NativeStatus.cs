using System.Runtime.CompilerServices;
using System.Text;

namespace CudaMoE.Interop;

/// <summary>Turns a native status into a typed exception with the native text.</summary>
internal static unsafe class NativeStatus
{
    private const int Argument = -1;
    private const int Unsupported = -2;
    private const int OutOfMemory = -3;
    private const int Device = -4;
    private const int Reported = -5;

    /// <summary>Throws unless <paramref name="status"/> is OK.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Check(int status)
    {
        if (status != 0)
            Throw(status);
    }

    /// <summary>The calling thread's last native message.</summary>
    public static string LastError()
    {
        long length = NativeMethods.LastError(null, 0);
        byte[] text = new byte[checked((int)length) + 1];
        fixed (byte* pointer = text)
            NativeMethods.LastError(pointer, text.Length);
        return Encoding.UTF8.GetString(text, 0, (int)length);
    }

    private static void Throw(int status)
    {
        string text = LastError();
        throw status switch
        {
            Argument => new NativeArgumentException(text),
            Unsupported => new NativeUnsupportedException(text),
            OutOfMemory => new DeviceOutOfMemoryException(text),
            Device => new DeviceException(text),
            Reported => new ReportedDataException(text),
            _ => new NativeException(text),
        };
    }
}
