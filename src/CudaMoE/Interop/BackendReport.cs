using System.Text;
using CudaMoE.Interop;

namespace CudaMoE;

/// <summary>One backend: whether a device of it can be opened here, and if not, why.</summary>
/// <param name="Name">"cpu", "cuda" or "simt".</param>
/// <param name="Usable">Whether a device can be opened.</param>
/// <param name="Library">The file that was looked for; empty for a built-in backend.</param>
/// <param name="Reason">Why it is not usable; empty when it is.</param>
public sealed record BackendStatus(string Name, bool Usable, string Library, string Reason);

/// <summary>What the library found on this machine: files tried, version, backends. Nothing falls back silently; this says what was used and why.</summary>
/// <param name="LibraryPath">The native library that is loaded; null when none could be.</param>
/// <param name="Version">Its version; null when none could be loaded.</param>
/// <param name="Attempts">Every file that was tried, with the answer.</param>
/// <param name="Backends">The backends; empty when the library could not be loaded.</param>
public sealed record BackendReport(string? LibraryPath, string? Version, IReadOnlyList<string> Attempts, IReadOnlyList<BackendStatus> Backends)
{
    /// <summary>Why the native library could not be loaded, and what builds it; null when it is loaded.</summary>
    public string? Failure { get; init; }

    /// <summary>Looks; it never throws because something is missing.</summary>
    public static unsafe BackendReport Query()
    {
        try
        {
            NativeLibraryLoader.EnsureLoaded();
        }
        catch (NativeLibraryException e)
        {
            return new(null, null, NativeLibraryLoader.Tried, []) { Failure = e.Message };
        }

        List<BackendStatus> backends = [];
        int count = NativeMethods.BackendCount();
        for (int i = 0; i < count; i++)
        {
            BackendInfo info = new() { StructSize = (uint)sizeof(BackendInfo) };
            NativeStatus.Check(NativeMethods.BackendGetInfo(i, &info));
            backends.Add(new(Utf8(info.Name), info.Usable != 0, Utf8(info.Library), Utf8(info.Reason)));
        }

        return new(NativeLibraryLoader.LoadedFrom, Utf8(NativeMethods.Version()), NativeLibraryLoader.Tried, backends);
    }

    /// <inheritdoc/>
    public override string ToString()
    {
        StringBuilder text = new();
        text.AppendLine($"native library: {LibraryPath ?? "none"} {Version}");
        foreach (string attempt in Attempts)
            text.AppendLine($"  {attempt}");
        foreach (BackendStatus backend in Backends)
            text.AppendLine($"  {backend.Name}: {(backend.Usable ? "usable" : backend.Reason)}");
        return text.ToString().TrimEnd();
    }

    internal static unsafe string Utf8(byte* text) => System.Runtime.InteropServices.Marshal.PtrToStringUTF8((nint)text) ?? "";
}
