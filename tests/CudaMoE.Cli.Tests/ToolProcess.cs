using System.Diagnostics;

namespace CudaMoE.Cli.Tests;

/// <summary>What a run of the tool gave.</summary>
internal sealed record ToolResult(int ExitCode, string Output, string Error);

/// <summary>Runs the tool: as the built program in a process of its own, or its entry point in this one.</summary>
internal static class ToolProcess
{
    /// <summary>Runs the built program.</summary>
    public static ToolResult Run(string folder, IReadOnlyDictionary<string, string>? environment, params string[] arguments)
    {
        ProcessStartInfo start = new("dotnet")
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "CudaMoE.Cli.dll"));
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        start.Environment.Remove("CUDAMOE_DEVICE");
        foreach ((string name, string value) in environment ?? new Dictionary<string, string>())
            start.Environment[name] = value;
        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        if (!process.WaitForExit(TimeSpan.FromMinutes(5)))
        {
            process.Kill();
            throw new TimeoutException($"{string.Join(' ', arguments)} took more than five minutes");
        }

        return new(process.ExitCode, output, error.Result);
    }

    /// <summary>Runs the entry point in this process; quicker, for what needs no process of its own.</summary>
    public static ToolResult RunHere(params string[] arguments)
    {
        using StringWriter output = new();
        using StringWriter error = new();
        int code = CliApplication.Run(arguments, output, error, CancellationToken.None);
        return new(code, output.ToString(), error.ToString());
    }
}
