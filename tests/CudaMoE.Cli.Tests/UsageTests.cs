using System.CommandLine;
using System.Text.Json;
using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Export;
using CudaMoE.Training;

namespace CudaMoE.Cli.Tests;

public sealed class UsageTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string> Commands => [.. CliApplication.CreateRoot().Subcommands.Select(c => c.Name)];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Help_OfTheTool_IsAsApproved()
    {
        ToolResult result = ToolProcess.RunHere("--help");

        Assert.Equal(ExitCodes.Ok, result.ExitCode);
        Assert.Empty(result.Error);
        Snapshot.Matches(result.Output, "help");
    }

    [Theory]
    [MemberData(nameof(Commands))]
    public void Help_OfACommand_IsAsApproved(string command)
    {
        ToolResult result = ToolProcess.RunHere(command, "--help");

        Assert.Equal(ExitCodes.Ok, result.ExitCode);
        Snapshot.Matches(result.Output, $"help-{command}");
    }

    [Theory]
    [MemberData(nameof(Commands))]
    public void Help_OfACommand_HasExamplesThatParse(string name)
    {
        RootCommand root = CliApplication.CreateRoot();
        IReadOnlyList<string> examples = Assert.IsAssignableFrom<CliCommand>(root.Subcommands.Single(c => c.Name == name)).Examples;

        Assert.NotEmpty(examples);
        foreach (string example in examples)
        {
            string[] words = example.Split(['>', '|'])[0].Split(' ', StringSplitOptions.RemoveEmptyEntries);
            Assert.Equal(["cudamoe", name], words[..2]);
            Assert.Empty(root.Parse(words[1..]).Errors);
        }
    }

    [Fact]
    public void NoArguments_ShowsHelpAndIsAUsageError()
    {
        ToolResult result = ToolProcess.RunHere();

        Assert.Equal(ExitCodes.Usage, result.ExitCode);
        Assert.Contains("Commands:", result.Error, StringComparison.Ordinal);
        Assert.Empty(result.Output);
    }

    [Theory]
    [InlineData("unknown-command", "repot")]
    [InlineData("unknown-option", "devices --devise cpu")]
    [InlineData("missing-argument", "report")]
    [InlineData("wrong-format", "devices --output xml")]
    [InlineData("not-a-number", "init x.csv --sample many")]
    [InlineData("missing-run-folder", "report does/not/exist")]
    [InlineData("missing-data-file", "init does-not-exist.csv")]
    public void WrongUse_IsExplained(string snapshot, string arguments)
    {
        ToolResult result = ToolProcess.RunHere(arguments.Split(' '));

        Assert.Equal(ExitCodes.Usage, result.ExitCode);
        Assert.Empty(result.Output);
        Snapshot.Matches(result.Error.Replace(Environment.CurrentDirectory, ".", StringComparison.Ordinal), $"error-{snapshot}");
    }

    [Fact]
    public void Error_AsJson_IsOneDocumentOnStandardOutput()
    {
        ToolResult result = ToolProcess.RunHere("report", "/does/not/exist", "--output", "json");

        using JsonDocument document = JsonDocument.Parse(result.Output);
        JsonElement error = document.RootElement.GetProperty("error");
        Assert.Equal("run_folder", error.GetProperty("kind").GetString());
        Assert.Equal(2, error.GetProperty("exit_code").GetInt32());
        Assert.Contains("/does/not/exist", error.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("repot --output json")]
    [InlineData("repot --output=json")]
    [InlineData("--output:json repot")]
    public void Error_OfAWrongCommandLineAsJson_IsJsonToo(string arguments) =>
        Assert.Equal("usage", JsonDocument.Parse(ToolProcess.RunHere(arguments.Split(' ')).Output).RootElement.GetProperty("error").GetProperty("kind").GetString());

    [Fact]
    public void Error_ShowsAStackTraceOnlyWhenVerbose()
    {
        Assert.DoesNotContain("   at ", ToolProcess.RunHere("report", "/does/not/exist").Error, StringComparison.Ordinal);
        Assert.Contains("   at ", ToolProcess.RunHere("report", "/does/not/exist", "--verbose").Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Errors_HaveTheirExitCodes()
    {
        (Exception Error, int Code, string Kind)[] expected =
        [
            (new OperationCanceledException(), 130, "cancelled"),
            (new UsageException("x"), 2, "usage"),
            (new DescriptionException("x"), 2, "description"),
            (new DataException("x"), 2, "data"),
            (new CheckpointFormatException("file", "x"), 2, "checkpoint"),
            (new ExportException("x"), 2, "export"),
            (new RunLogException("x"), 2, "run_folder"),
            (new RunLogException("x", new IOException("y")), 1, "file"),
            (new RunLogException("x", new DirectoryNotFoundException("y")), 2, "file"),
            (new NativeArgumentException("x"), 2, "argument"),
            (new FileNotFoundException("x"), 2, "file"),
            (new NativeLibraryException("x"), 3, "native_library"),
            (new DeviceException("x"), 3, "device"),
            (new NativeUnsupportedException("x"), 3, "unsupported"),
            (new DeviceOutOfMemoryException("x"), 3, "memory"),
            (new CudaMoEException("x"), 1, "failed"),
            (new IOException("x"), 1, "file"),
            (new InvalidOperationException("x"), 1, "defect"),
        ];
        foreach ((Exception error, int code, string kind) in expected)
        {
            CliError shown = ErrorPrinter.Describe(error);
            Assert.Equal((code, kind), (shown.ExitCode, shown.Kind));
        }
    }

    [Theory]
    [InlineData("repot", "report")]
    [InlineData("reprot", "report")]
    [InlineData("xyz", null)]
    public void Nearest_IsSuggestedOnlyWhenNear(string word, string? expected) =>
        Assert.Equal(expected, UsageErrors.Nearest(word, ["report", "devices", "doctor"]));
}
