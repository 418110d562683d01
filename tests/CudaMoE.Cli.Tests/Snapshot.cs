using System.Runtime.CompilerServices;

namespace CudaMoE.Cli.Tests;

/// <summary>
/// Compares text with an approved file in Snapshots/. With the environment variable CUDAMOE_APPROVE=1 the file is written instead, to be read
/// through before it is committed.
/// </summary>
internal static class Snapshot
{
    public static void Matches(string text, string name, [CallerFilePath] string caller = "")
    {
        string path = Path.Combine(Path.GetDirectoryName(caller)!, "Snapshots", name + ".txt");
        string lines = string.Join('\n', text.ReplaceLineEndings("\n").Split('\n').Select(l => l.TrimEnd())).Trim('\n') + "\n";
        if (Environment.GetEnvironmentVariable("CUDAMOE_APPROVE") == "1")
        {
            File.WriteAllText(path, lines);
            return;
        }

        Assert.True(File.Exists(path), $"{path} is missing; run with CUDAMOE_APPROVE=1 to write it");
        Assert.Equal(File.ReadAllText(path), lines);
    }
}
