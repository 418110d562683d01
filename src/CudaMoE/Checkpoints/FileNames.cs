namespace CudaMoE.Checkpoints;

/// <summary>Gives files and folders their final names.</summary>
/// <remarks>
/// On Windows no name changes while a reader, a virus scanner or an indexer has the file, the one that it replaces or one in the folder open. They
/// do so for moments, so a move that they prevent is tried again for <see cref="Patience"/>.
/// </remarks>
internal static class FileNames
{
    /// <summary>How long a move is tried.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(3);

    private const int AccessDenied = unchecked((int)0x80070005);
    private const int SharingViolation = unchecked((int)0x80070020);
    private const int LockViolation = unchecked((int)0x80070021);

    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(10);

    /// <summary>Renames a file; one that has the name already is replaced.</summary>
    /// <exception cref="IOException">It cannot be moved; the message names the target.</exception>
    public static void MoveFile(string from, string to) => Move(to, () => File.Move(from, to, overwrite: true));

    /// <summary>Renames a folder.</summary>
    /// <exception cref="IOException">It cannot be moved; the message names the target.</exception>
    public static void MoveFolder(string from, string to) => Move(to, () => Directory.Move(from, to));

    /// <summary>Calls until no other program's hold on a file prevents it.</summary>
    /// <exception cref="IOException">It was still prevented after <see cref="Patience"/>, or another error came.</exception>
    public static void WhileHeld(Action call)
    {
        long started = Environment.TickCount64;
        while (true)
        {
            try
            {
                call();
                return;
            }
            catch (Exception error) when (IsHeld(error) && Environment.TickCount64 - started < Patience.TotalMilliseconds)
            {
                Thread.Sleep(Pause);
            }
        }
    }

    // What the system says of a held file names no file.
    private static void Move(string to, Action move)
    {
        try
        {
            WhileHeld(move);
        }
        catch (Exception error) when (IsHeld(error))
        {
            throw new IOException($"{to} cannot be written: another program has it open, or it may not be changed ({error.Message})", error);
        }
    }

    // Windows says the same of a held file and of a missing permission. The numbers are those of Windows alone.
    private static bool IsHeld(Exception error) =>
        error is IOException { HResult: AccessDenied or SharingViolation or LockViolation } || (error is UnauthorizedAccessException && OperatingSystem.IsWindows());
}
