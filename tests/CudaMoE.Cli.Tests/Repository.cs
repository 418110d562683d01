using System.Runtime.CompilerServices;

namespace CudaMoE.Cli.Tests;

/// <summary>Where the repository is, for tests on the data that ships with it.</summary>
internal static class Repository
{
    public static string Root { get; } = Find();

    private static string Find([CallerFilePath] string caller = "") => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(caller)!, "..", ".."));
}
