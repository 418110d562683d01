using System.Diagnostics;

namespace CudaMoE.CudaReport;

/// <summary>Runs the programs that this one reads.</summary>
internal static class Tool
{
    public static string Run(string program, IEnumerable<string> arguments)
    {
        string output = "";
        Read(program, arguments, text => output = text.ReadToEnd());
        return output;
    }

    /// <summary>Hands the standard output to <paramref name="read"/> while the program runs. Throws when it fails.</summary>
    public static void Read(string program, IEnumerable<string> arguments, Action<TextReader> read)
    {
        var start = new ProcessStartInfo(program) { RedirectStandardOutput = true };
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        using Process process = Process.Start(start) ?? throw new InvalidOperationException($"{program} did not start");
        read(process.StandardOutput);
        process.WaitForExit();
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"{program} {string.Join(' ', arguments.Take(3))} failed with exit code {process.ExitCode}");
    }
}
