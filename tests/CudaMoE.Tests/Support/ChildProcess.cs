using System.Diagnostics;
using CudaMoE.Tests.Checkpoints;
using CudaMoE.Tests.Data;

namespace CudaMoE.Tests.Support;

/// <summary>Runs a part of this assembly in a process of its own, for tests that kill it.</summary>
internal static class ChildProcess
{
    /// <summary>Starts <c>dotnet CudaMoE.Tests.dll arguments</c> with its standard output redirected.</summary>
    public static Process Start(params string[] arguments) => Start(withErrors: false, arguments);

    /// <summary>As <see cref="Start(string[])"/>, with its standard error redirected, too.</summary>
    public static Process StartWithErrors(params string[] arguments) => Start(withErrors: true, arguments);

    private static Process Start(bool withErrors, string[] arguments)
    {
        ProcessStartInfo start = new(Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) == "dotnet" ? path : "dotnet")
        {
            RedirectStandardOutput = true,
            RedirectStandardError = withErrors,
            UseShellExecute = false,
        };
        start.ArgumentList.Add(typeof(ChildProcess).Assembly.Location);
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        return Process.Start(start)!;
    }

    private static int Main(string[] arguments) => arguments switch
    {
        ["checkpoint-writer", string folder, string stopAt] => CheckpointWriterProcess.Run(folder, stopAt),
        ["dataset", string folder] => CacheTests.RunChild(folder, hang: false),
        ["dataset", string folder, "hang"] => CacheTests.RunChild(folder, hang: true),
        ["loader", string folder] => BatchLoaderTests.RunChild(folder),
        ["host-access"] => Tensors.DeviceFaultTests.RunChild(),
        ["trainer", string folder, string device] => Training.TrainerTests.RunChild(folder, device),
        _ => 2,
    };
}
