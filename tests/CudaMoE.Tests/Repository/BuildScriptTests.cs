using System.Text.RegularExpressions;

namespace CudaMoE.Tests.Repository;

/// <summary>build.ps1 offers on Windows what build.sh offers on Linux, or says that a command needs Linux.</summary>
public sealed class BuildScriptTests
{
    [Fact]
    public void Help_OfBothScripts_NamesTheSameCommands()
    {
        string script = SourceTree.ReadText("build.ps1")!;
        Match onLinuxOnly = Regex.Match(script, @"^On Linux only.*\n  (?<commands>[a-z, -]+);", RegexOptions.Multiline);
        Assert.True(onLinuxOnly.Success, "build.ps1 does not list the commands that need Linux");
        string[] needLinux = onLinuxOnly.Groups["commands"].Value.Split(", ");

        Assert.Equal(Commands(SourceTree.ReadText("build.sh")!).Order(), Commands(script).Concat(needLinux).Order());
        foreach (string command in needLinux) Assert.Contains($"'{command}'", script, StringComparison.Ordinal);
    }

    [PowerShellTheory]
    [InlineData(0, "help", "Usage: ./build.ps1 <command> [options]")]
    [InlineData(2, "buidl", "error: \"buidl\" is not a command")]
    [InlineData(2, "build now", "error: build takes no arguments")]
    [InlineData(2, "test --foo", "error: test takes --native or --managed, not \"--foo\"")]
    [InlineData(2, "format --chek", "error: format takes --check, not \"--chek\"")]
    public void Use_OfBuildPs1_IsAnswered(int code, string arguments, string begin)
    {
        ProcessResult result = SourceTree.Run("pwsh", ["-NoProfile", "-File", "build.ps1", .. arguments.Split(' ')], TimeSpan.FromMinutes(1));

        Assert.Equal(code, result.ExitCode);
        Assert.StartsWith(begin, code == 0 ? result.Output : result.Error, StringComparison.Ordinal);
    }

    // Those of the usage text's list: each begins a line, two columns in.
    private static IEnumerable<string> Commands(string script)
    {
        string list = Regex.Match(script, @"^Usage: \./build\.\w+ <command> \[options\]\n\n(.*?)\n\n", RegexOptions.Multiline | RegexOptions.Singleline).Groups[1].Value;
        return Regex.Matches(list, "^  ([a-z][a-z-]*)", RegexOptions.Multiline).Select(match => match.Groups[1].Value);
    }

    /// <summary>Skipped where there is no PowerShell.</summary>
    private sealed class PowerShellTheoryAttribute : TheoryAttribute
    {
        public PowerShellTheoryAttribute()
        {
            string[] folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator);
            if (!folders.Any(folder => File.Exists(Path.Combine(folder, OperatingSystem.IsWindows() ? "pwsh.exe" : "pwsh")))) Skip = "pwsh is not on the PATH";
        }
    }
}
