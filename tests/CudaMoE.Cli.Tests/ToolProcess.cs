using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace CudaMoE.Cli.Tests;

/// <summary>What a run of the tool gave.</summary>
internal sealed record ToolResult(int ExitCode, string Output, string Error);

/// <summary>Runs the tool: as the built program in a process of its own, or its entry point in this one.</summary>
internal static class ToolProcess
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(5);

    /// <summary>Runs the built program.</summary>
    public static ToolResult Run(string folder, IReadOnlyDictionary<string, string>? environment, params string[] arguments)
    {
        using Process process = Start(folder, environment, arguments);
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        WaitForEnd(process, arguments);
        return new(process.ExitCode, output, error.Result);
    }

    /// <summary>
    /// Runs the built program and sends it a signal when it has written a certain line to standard error. Whoever runs the tests may ignore the
    /// signal, as a shell does for what it runs in the background; the program starts without that.
    /// </summary>
    public static ToolResult RunUntil(string folder, Predicate<string> when, string signal, params string[] arguments)
    {
        using Process process = Start(folder, environment: null, arguments, ["env", "--default-signal=INT,TERM", "dotnet"]);
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        StringBuilder error = new();
        bool sent = false;
        while (process.StandardError.ReadLine() is { } line)
        {
            error.AppendLine(line);
            if (sent || !when(line))
                continue;
            sent = true;
            using Process kill = Process.Start("kill", [$"-{signal}", process.Id.ToString(CultureInfo.InvariantCulture)]);
            kill.WaitForExit();
        }

        WaitForEnd(process, arguments);
        return new(process.ExitCode, output.Result, error.ToString());
    }

    /// <summary>Runs the entry point in this process; quicker, for what needs no process of its own.</summary>
    public static ToolResult RunHere(params string[] arguments)
    {
        using StringWriter output = new();
        using StringWriter error = new();
        int code = CliApplication.Run(arguments, output, error, CancellationToken.None);
        return new(code, output.ToString(), error.ToString());
    }

    private static Process Start(string folder, IReadOnlyDictionary<string, string>? environment, string[] arguments, string[]? host = null)
    {
        host ??= ["dotnet"];
        ProcessStartInfo start = new(host[0])
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (string argument in host[1..])
            start.ArgumentList.Add(argument);
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "CudaMoE.Cli.dll"));
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        start.Environment.Remove("CUDAMOE_DEVICE");
        foreach ((string name, string value) in environment ?? new Dictionary<string, string>())
            start.Environment[name] = value;
        return Process.Start(start)!;
    }

    private static void WaitForEnd(Process process, string[] arguments)
    {
        if (process.WaitForExit(Limit))
            return;
        process.Kill();
        throw new TimeoutException($"{string.Join(' ', arguments)} took more than {Limit.TotalMinutes} minutes");
    }
}
