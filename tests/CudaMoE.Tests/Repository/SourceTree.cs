using System.Diagnostics;

namespace CudaMoE.Tests.Repository;

/// <summary>The checked-out source tree that these tests were built from.</summary>
internal static class SourceTree
{
    /// <summary>The folder that holds CudaMoE.sln.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>Paths of all files that git tracks or would track, relative to <see cref="Root"/>, with forward slashes.</summary>
    public static IReadOnlyList<string> Files()
    {
        ProcessResult result = Run("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], TimeSpan.FromMinutes(1));
        Assert.True(result.ExitCode == 0, "git ls-files: " + result.Error);
        return [.. result.Output.Split('\0', StringSplitOptions.RemoveEmptyEntries).Where(file => File.Exists(Path.Combine(Root, file)))];
    }

    /// <summary>The text of a file, line ends as \n; null when it is not text.</summary>
    public static string? ReadText(string file)
    {
        byte[] bytes = File.ReadAllBytes(Path.Combine(Root, file));
        return Array.IndexOf(bytes, (byte)0) >= 0 ? null : System.Text.Encoding.UTF8.GetString(bytes).ReplaceLineEndings("\n");
    }

    /// <summary>Runs a program in <see cref="Root"/> and waits for its end.</summary>
    public static ProcessResult Run(string program, IEnumerable<string> arguments, TimeSpan limit)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = Root,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        using var process = Process.Start(start) ?? throw new InvalidOperationException(program + " did not start");
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(limit))
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"{program} did not end within {limit}");
        }
        process.WaitForExit();
        return new ProcessResult(process.ExitCode, output.GetAwaiter().GetResult(), error.GetAwaiter().GetResult());
    }

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder != null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "CudaMoE.sln"))) return folder.FullName;
        }
        throw new InvalidOperationException("CudaMoE.sln is in no folder above " + AppContext.BaseDirectory);
    }
}

/// <summary>What a program left behind.</summary>
internal sealed record ProcessResult(int ExitCode, string Output, string Error);
