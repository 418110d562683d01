using System.Text.Json;

namespace CudaMoE.Cli.Tests;

/// <summary>The graph commands.</summary>
public sealed class GraphTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Build_Update_Inspect_AnswerInJson()
    {
        string log = Path.Combine(_folder.Path, "log.csv");
        string graph = Path.Combine(_folder.Path, "shop.graph");
        Assert.Equal(0, ToolProcess.RunHere("graph", "generate", "--interactions", "5000", "--users", "200", "--items", "60", "--to", log).ExitCode);
        ToolResult built = ToolProcess.RunHere("graph", "build", "--events", log, "--task", "view", "--task", "cart", "--task", "buy", "--time", "time", "--user-nodes", "7", "--to", graph, "--output", "json");
        Assert.True(built.ExitCode == 0, built.Error);
        Assert.Equal((4000, 1000, 7), Facts(built));
        Assert.Contains("clustering", built.Error, StringComparison.Ordinal);

        ToolResult updated = ToolProcess.RunHere("graph", "update", graph, "--events", log, "--output", "json");
        Assert.True(updated.ExitCode == 0, updated.Error);
        Assert.Equal((9000, 0, 7), Facts(updated));
        ToolResult inspected = ToolProcess.RunHere("graph", "inspect", graph, "--output", "json");
        Assert.Equal((9000, 0, 7), Facts(inspected));
        Assert.Contains("users", ToolProcess.RunHere("graph", "inspect", graph).Output, StringComparison.Ordinal);
        Assert.Equal(["log.csv", "shop.graph"], Directory.EnumerateFileSystemEntries(_folder.Path).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void WrongCommandLinesAndFiles_AreErrorsOfUse()
    {
        string file = Path.Combine(_folder.Path, "no.graph");
        File.WriteAllText(file, "user item\n");
        Refused("no file of interactions", "graph", "build", "--task", "view", "--to", file);
        Refused("no TASK=FILE", "graph", "build", "--task", "view", "--lists", file, "--to", file);
        Refused("tau is -1", "graph", "build", "--task", "view", "--lists", $"view={file}", "--tau", "-1", "--to", file);
        Refused("not a macro graph", "graph", "inspect", file);
        Refused("Required command", "graph");

        void Refused(string message, params string[] arguments)
        {
            ToolResult result = ToolProcess.RunHere(arguments);
            Assert.Equal(2, result.ExitCode);
            Assert.Contains(message, result.Error, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void CtrlC_LeavesNothingBehind()
    {
        string log = Path.Combine(_folder.Path, "log.csv");
        ToolProcess.RunHere("graph", "generate", "--interactions", "400000", "--to", log);
        ToolResult result = ToolProcess.RunUntil(_folder.Path, line => line.StartsWith("reading", StringComparison.Ordinal), "INT", "graph", "build", "--events", log, "--task", "view", "--to", "shop.graph");
        Assert.Equal(130, result.ExitCode);
        Assert.Equal(["log.csv"], Directory.EnumerateFileSystemEntries(_folder.Path).Select(Path.GetFileName));
    }

    private static (int Interactions, int Later, int UserNodes) Facts(ToolResult result)
    {
        using JsonDocument document = JsonDocument.Parse(result.Output);
        JsonElement graph = document.RootElement.GetProperty("graph");
        return (graph.GetProperty("interactions").GetInt32(), graph.GetProperty("later").GetInt32(), graph.GetProperty("user_nodes").GetInt32());
    }
}
