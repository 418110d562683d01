using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using CudaMoE.Tests.Support;

namespace CudaMoE.Cli.Tests;

/// <summary>The built program as a user starts it.</summary>
public sealed class ToolTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Version_IsPrinted()
    {
        ToolResult result = ToolProcess.Run(_folder.Path, null, "--version");

        Assert.Equal(0, result.ExitCode);
        Assert.Matches(@"^\d+\.\d+\.\d+\s*$", result.Output);
    }

    [Fact]
    public void Doctor_OnThisMachine_IsHealthyAndPrintsJson()
    {
        ToolResult result = ToolProcess.Run(_folder.Path, null, "doctor", "--output", "json");

        using JsonDocument document = JsonDocument.Parse(result.Output);
        Assert.True(document.RootElement.GetProperty("healthy").GetBoolean(), result.Output);
        Assert.Equal(0, result.ExitCode);
    }

    [Fact]
    public void Devices_ListTheCpu()
    {
        ToolResult result = ToolProcess.Run(_folder.Path, null, "devices", "--output", "json");

        using JsonDocument document = JsonDocument.Parse(result.Output);
        JsonElement cpu = document.RootElement.GetProperty("backends").EnumerateArray().Single(b => b.GetProperty("backend").GetString() == "cpu");
        Assert.True(cpu.GetProperty("usable").GetBoolean());
        Assert.True(cpu.GetProperty("threads").GetInt32() >= 1);
    }

    [SimtFact]
    public void Devices_ListTheExecutor()
    {
        ToolResult result = ToolProcess.RunHere("devices", "--output", "json");

        using JsonDocument document = JsonDocument.Parse(result.Output);
        JsonElement simt = document.RootElement.GetProperty("backends").EnumerateArray().Single(b => b.GetProperty("backend").GetString() == "simt");
        Assert.True(simt.GetProperty("usable").GetBoolean());
        Assert.Equal("sm_80", simt.GetProperty("level").GetString());
    }

    [Fact]
    public void BenchBalancers_AnswersAsJson()
    {
        JsonNode small = JsonNode.Parse(File.ReadAllText(Path.Combine(Repository.Root, "benchmarks", "configs", "mmoe.json")))!;
        small["sparse"]!["rows"] = 100;
        string config = Path.Combine(_folder.Path, "small.json");
        File.WriteAllText(config, small.ToJsonString());

        ToolResult result = ToolProcess.RunHere("bench", "balancers", "--config", config, "--batch", "16", "--rounds", "3", "--steps", "1", "--tasks", "2", "--device", TestDevices.Default, "--output", "json");

        using JsonDocument document = JsonDocument.Parse(result.Output);
        JsonElement equal = document.RootElement.GetProperty("costs")[0];
        Assert.Equal((2, 1.0), (equal.GetProperty("tasks").GetInt32(), equal.GetProperty("ratio").GetDouble()));
    }

    [Theory]
    [InlineData("devices")]
    [InlineData("doctor")]
    public void MissingNativeLibrary_IsAnErrorOfTheEnvironment(string command)
    {
        Dictionary<string, string> environment = new() { ["CUDAMOE_NATIVE_PATH"] = Path.Combine(_folder.Path, "nothing-here") };

        ToolResult result = ToolProcess.Run(_folder.Path, environment, command);

        Assert.Equal(3, result.ExitCode);
        Assert.Contains("nothing-here", result.Output + result.Error, StringComparison.Ordinal);
        Assert.Contains("./build.sh build", result.Output + result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void LibraryThatIsNotOurs_IsAnErrorOfTheEnvironment()
    {
        string other = Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), OperatingSystem.IsWindows() ? "clrjit.dll" : OperatingSystem.IsMacOS() ? "libclrjit.dylib" : "libclrjit.so");

        ToolResult result = ToolProcess.Run(_folder.Path, new Dictionary<string, string> { ["CUDAMOE_NATIVE_PATH"] = other }, "devices");

        Assert.Equal(3, result.ExitCode);
        Assert.Contains($"{other}: does not export cudamoe_abi_version", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("doctor")]
    [InlineData("devices")]
    [InlineData("--help")]
    [InlineData("no-such-command")]
    public void NoColor_WritesNoEscapeCodes(string command)
    {
        Dictionary<string, string> environment = new() { ["NO_COLOR"] = "1", ["TERM"] = "xterm-256color" };

        ToolResult result = ToolProcess.Run(_folder.Path, environment, command);

        Assert.DoesNotContain('\x1b', result.Output + result.Error);
    }

    [Fact]
    public void Init_InAProcess_WritesTheFileAndTellsWhatIsNext()
    {
        _folder.Write("data.csv", "age,clicked\n31,0\n47,1\n25,0\n");

        ToolResult result = ToolProcess.Run(_folder.Path, null, "init", "data.csv", "--task", "clicked");

        Assert.Equal(0, result.ExitCode);
        Assert.True(File.Exists(Path.Combine(_folder.Path, "model.json")));
        Assert.Contains("cudamoe train model.json", result.Error, StringComparison.Ordinal);
    }
}
