using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;

namespace CudaMoE.Interop;

/// <summary>
/// Finds and loads libcudamoe, once: the file or folder that the environment variable <c>CUDAMOE_NATIVE_PATH</c> names, or else
/// <c>runtimes/&lt;rid&gt;/native</c> beside the assembly, or else the assembly's own folder. Nothing is thrown from static constructors;
/// <see cref="EnsureLoaded"/> throws with every attempt listed.
/// </summary>
internal static class NativeLibraryLoader
{
    public const string PathVariable = "CUDAMOE_NATIVE_PATH";

    private const string AbiVersionExport = "cudamoe_abi_version";

    private static readonly Lock Gate = new();
    private static readonly List<string> Attempts = [];
    private static nint _library;
    private static string? _loadedFrom;
    private static string? _failure;
    private static bool _resolverSet;

    /// <summary>The file that was loaded; null before that.</summary>
    public static string? LoadedFrom => _loadedFrom;

    /// <summary>Every file that was tried, with the loader's answer.</summary>
    public static IReadOnlyList<string> Tried
    {
        get
        {
            lock (Gate)
                return [.. Attempts];
        }
    }

    // Not cudamoe.dll on Windows: names of files have no case there, and CudaMoE.dll is this assembly.
    private static string FileName =>
        OperatingSystem.IsWindows() ? "libcudamoe.dll" : OperatingSystem.IsMacOS() ? "libcudamoe.dylib" : "libcudamoe.so";

    /// <summary>Loads the library and compares its ABI version.</summary>
    /// <exception cref="NativeLibraryException">It could not be loaded, or is of another version.</exception>
    public static void EnsureLoaded()
    {
        lock (Gate)
        {
            if (_library != 0)
                return;
            if (_failure != null)
                throw new NativeLibraryException(_failure);
            if (!_resolverSet)
            {
                NativeLibrary.SetDllImportResolver(typeof(NativeLibraryLoader).Assembly, Resolve);
                _resolverSet = true;
            }

            foreach (string candidate in Candidates())
            {
                if (!File.Exists(candidate))
                {
                    Attempts.Add($"{candidate}: no such file");
                    continue;
                }

                try
                {
                    nint library = NativeLibrary.Load(candidate);
                    if (!NativeLibrary.TryGetExport(library, AbiVersionExport, out _))
                    {
                        NativeLibrary.Free(library);
                        Attempts.Add($"{candidate}: does not export {AbiVersionExport}; it is another library");
                        continue;
                    }

                    _library = library;
                    _loadedFrom = candidate;
                    Attempts.Add($"{candidate}: loaded");
                    break;
                }
                catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
                {
                    Attempts.Add($"{candidate}: {e.Message.ReplaceLineEndings(" ")}");
                }
            }

            if (_library == 0)
            {
                _failure = Describe("the native library could not be loaded");
                throw new NativeLibraryException(_failure);
            }

            int version = NativeMethods.AbiVersion();
            if (version != NativeConstants.AbiVersion)
            {
                _failure = Describe($"{_loadedFrom} has ABI version {version}, but this assembly needs {NativeConstants.AbiVersion}");
                NativeLibrary.Free(_library);
                _library = 0;
                _loadedFrom = null;
                throw new NativeLibraryException(_failure);
            }
        }
    }

    private static IEnumerable<string> Candidates()
    {
        string? named = Environment.GetEnvironmentVariable(PathVariable);
        if (!string.IsNullOrEmpty(named))
        {
            yield return Directory.Exists(named) ? Path.Combine(named, FileName) : named;
            yield break;
        }

        string folder = AppContext.BaseDirectory;
        yield return Path.Combine(folder, "runtimes", RuntimeInformation.RuntimeIdentifier, "native", FileName);
        string portable = $"{(OperatingSystem.IsWindows() ? "win" : OperatingSystem.IsMacOS() ? "osx" : "linux")}-{RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant()}";
        if (portable != RuntimeInformation.RuntimeIdentifier)
            yield return Path.Combine(folder, "runtimes", portable, "native", FileName);
        yield return Path.Combine(folder, FileName);
    }

    private static string Describe(string what)
    {
        StringBuilder text = new();
        text.Append(what).Append(". Build it with ./build.sh build (build.ps1 on Windows), or name its folder in ").Append(PathVariable).AppendLine(". Tried:");
        foreach (string attempt in Attempts)
            text.Append("  ").AppendLine(attempt);
        return text.ToString().TrimEnd();
    }

    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? path) =>
        name == NativeMethods.Library ? _library : 0;
}
