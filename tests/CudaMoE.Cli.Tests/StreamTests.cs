using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using CudaMoE.Tests.Support;

namespace CudaMoE.Cli.Tests;

/// <summary><c>cudamoe stream</c> as a user runs it: answers, a kill in the middle, rolling back, and what is refused.</summary>
public sealed class StreamTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Stream_KilledAndRunAgain_HasTheBitsOfAnUnbrokenRun()
    {
        string other = TestDevices.Default == TestDevices.Cpu ? "cpu:threads=1" : TestDevices.Default;
        string file = Write();
        string whole = Path.Combine(_folder.Path, "whole"), killed = Path.Combine(_folder.Path, "killed");
        ToolResult unbroken = ToolProcess.RunHere("stream", file, "--to", whole, "--device", other, "--output", "json");
        Assert.Equal(0, unbroken.ExitCode);

        ToolResult first = ToolProcess.RunUntil(
            _folder.Path, line => line.StartsWith("window 1/", StringComparison.Ordinal), "KILL", "stream", file, "--to", killed, "--device", TestDevices.Default);
        Assert.True(first.ExitCode is 137 or 9, first.Error);
        ToolResult second = ToolProcess.RunHere("stream", file, "--to", killed, "--device", TestDevices.Default, "--output", "json");

        Assert.Contains("going on behind window ", second.Error, StringComparison.Ordinal);
        Assert.Equal(Weights(whole), Weights(killed));
        JsonNode a = JsonNode.Parse(unbroken.Output)!, b = JsonNode.Parse(second.Output)!;
        Assert.Equal(a["windows"]!.ToJsonString(), b["windows"]!.ToJsonString());
        Assert.Equal(a["retained"]!.ToJsonString(), b["retained"]!.ToJsonString());
        Assert.True((bool)a["complete"]!);
        Assert.Equal(3, a["windows"]!.AsArray().Count);
        Assert.True((double)a["windows"]![0]!["test"]!["hit_rate10"]! >= 0);
    }

    [Fact]
    public void Stream_UntilAndRollback_StopAndGoOn()
    {
        string file = Write(), run = Path.Combine(_folder.Path, "run");
        Assert.Equal(0, ToolProcess.RunHere("stream", file, "--to", run, "--until", "2").ExitCode);
        Assert.Equal(2, Directory.GetDirectories(Path.Combine(run, "windows")).Length);
        Dictionary<string, string> before = Weights(run);
        Assert.Equal(1, (int)JsonNode.Parse(ToolProcess.RunHere("stream", file, "--to", run, "--rollback", "1", "--output", "json").Output)!["window"]!);
        Assert.Single(Directory.GetDirectories(Path.Combine(run, "windows")));
        ToolResult again = ToolProcess.RunHere("stream", file, "--to", run, "--until", "2");
        Assert.Equal(0, again.ExitCode);
        Assert.Equal(before, Weights(run));
        Assert.Contains("HR@10", again.Output, StringComparison.Ordinal);
        string report = File.ReadAllText(Path.Combine(run, "report.md"));
        Assert.Contains("| window | sequences |", report, StringComparison.Ordinal);
        Assert.Contains("| mean |", report, StringComparison.Ordinal);
    }

    [Fact]
    public void Stream_Set_ReplacesKeys()
    {
        string file = Write(), run = Path.Combine(_folder.Path, "fixed");
        ToolResult result = ToolProcess.RunHere("stream", file, "--to", run, "--set", "growth.expand=false", "--output", "json");
        Assert.Equal(0, result.ExitCode);
        Assert.All(JsonNode.Parse(result.Output)!["windows"]!.AsArray(), window => Assert.Equal(1, (int)window!["experts"]!["id.layers.0"]!));
        ToolResult other = ToolProcess.RunHere("stream", file, "--to", run);
        Assert.Equal(1, other.ExitCode);
        Assert.Contains("holds the windows of another description", other.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Stream_Schema_IsThePublishedOne()
    {
        ToolResult result = ToolProcess.RunHere("stream", "--schema");
        Assert.Equal(File.ReadAllText(Path.Combine(Repository.Root, "docs", "stream.schema.json")), result.Output);
    }

    [Theory]
    [InlineData("stream needs a stream file")]
    [InlineData("there is no stream file nowhere.json", "nowhere.json")]
    [InlineData("--until is 4; it must be 1 to 3", "FILE", "--until", "4")]
    [InlineData("--rollback is -1; it must be 0 to 3", "FILE", "--rollback", "-1")]
    [InlineData("growth.prun: unknown key; did you mean \"prune\"?", "FILE", "--set", "growth.prun=false")]
    [InlineData("--set nothing has no KEY=VALUE", "FILE", "--set", "nothing")]
    public void Stream_WrongCall_NamesTheFault(string message, params string[] arguments)
    {
        string file = Write();
        ToolResult result = ToolProcess.RunHere(["stream", .. arguments.Select(argument => argument == "FILE" ? file : argument), "--to", Path.Combine(_folder.Path, "x")]);
        Assert.Equal(2, result.ExitCode);
        Assert.Contains(message, result.Error, StringComparison.Ordinal);
    }

    private static Dictionary<string, string> Weights(string run) => Directory.GetFiles(Path.Combine(run, "windows"), "*.safetensors", SearchOption.AllDirectories)
        .ToDictionary(file => Path.GetRelativePath(run, file), file => Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(file))));

    private string Write()
    {
        Random random = new(3);
        File.WriteAllLines(
            Path.Combine(_folder.Path, "log.csv"),
            ["user_id,item_id,time", .. Enumerable.Range(0, 400).Select(i => string.Create(CultureInfo.InvariantCulture, $"u{random.Next(6)},i{random.Next(30)},{i}"))]);
        string file = Path.Combine(_folder.Path, "stream.json");
        File.WriteAllText(
            file,
            """
            {
              "name": "small",
              "data": { "log": ["log.csv"], "windows": 4, "user_core": 2 },
              "modalities": [{ "name": "id", "source": "synthetic", "layers": 2, "width": 16, "factors": 8 }],
              "model": { "adapter": 4, "hidden": 16, "feed_forward": 16, "blocks": 1, "history": 5 },
              "training": { "batch_size": 4, "epochs": 12, "quiet_epochs": 2, "patience": 3 },
            }
            """);
        return file;
    }
}
