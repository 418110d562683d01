using CudaMoE.Checkpoints;
using CudaMoE.Tests.Support;

namespace CudaMoE.Cli.Tests;

/// <summary>Weights in the layout of AdaTT's library, through <c>import</c> and <c>probe</c>, against that library's forward pass in double precision.</summary>
public sealed class ImportTests : IDisposable
{
    private const int Rows = 6;
    private const int Inputs = 5;
    private readonly TemporaryFolder _folder = new();
    private readonly Random _random = new(Environment.TickCount);
    private readonly List<string> _tasks = ["click", "like", "share"];

    public static TheoryData<string> Models =>
    [
        "\"type\": \"adatt\", \"experts\": { \"levels\": [[6, 5], [4]] }, \"tower\": [3]",
        "\"type\": \"adatt\", \"experts\": { \"per_task\": 2, \"levels\": [[6], [4], [5]] }, \"tower\": [3, 2]",
        "\"type\": \"adatt\", \"experts\": { \"per_task\": 2, \"native\": \"none\", \"levels\": [[6], [4]] }, \"tower\": [3]",
        "\"type\": \"adatt\", \"experts\": { \"shared\": 1, \"levels\": [[6], [4]] }, \"tower\": [3]",
        "\"type\": \"adatt\", \"experts\": { \"per_task\": 2, \"shared\": 3, \"levels\": [[6], [4], [5]] }, \"tower\": [3]",
        "\"type\": \"ple\", \"experts\": { \"per_task\": 2, \"shared\": 3, \"levels\": [[6], [4, 5], [4]] }, \"tower\": [3]",
        "\"type\": \"cgc\", \"experts\": { \"per_task\": 2, \"shared\": 1, \"layers\": [6, 4] }, \"tower\": [3]",
        "\"type\": \"ml_mmoe\", \"experts\": { \"count\": 4, \"levels\": [[6], [4]] }, \"tower\": [3]",
        "\"type\": \"mmoe\", \"experts\": { \"count\": 4, \"layers\": [6, 4] }, \"tower\": [3]",
        "\"type\": \"cross_stitch\", \"experts\": { \"levels\": [[6], [4]] }, \"tower\": [3]",
        "\"type\": \"shared_bottom\", \"bottom\": [6, 4], \"tower\": [3]",
    ];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Models))]
    public void Probe_OfImportedWeights_IsTheLibrarysForward(string architecture)
    {
        AdattLibrary library = new(architecture, _tasks.Count, Inputs, _random);
        WriteModel(architecture);
        Save("theirs.safetensors", library.Tensors);

        ToolResult imported = Import("--layout", "adatt");

        Assert.True(imported.ExitCode == 0, imported.Error);
        Assert.Contains($"from {library.Tensors.Count} tensors", imported.Output, StringComparison.Ordinal);
        float[] x = [.. Enumerable.Range(0, Rows * Inputs).Select(_ => (float)((_random.NextDouble() * 2) - 1))];
        Dictionary<string, float[]> outputs = Probe(x);
        for (int row = 0; row < Rows; row++)
        {
            double[] expected = library.Forward([.. x.Skip(row * Inputs).Take(Inputs).Select(value => (double)value)]);
            for (int t = 0; t < _tasks.Count; t++)
                Assert.Equal(expected[t], outputs[$"outputs.{_tasks[t]}"][row], 1e-5);
        }
    }

    [Fact]
    public void Import_PrefixAndMap_TakeTablesAndTheRest()
    {
        const string architecture = "\"type\": \"shared_bottom\", \"bottom\": [6, 4], \"tower\": [3]";
        AdattLibrary library = new(architecture, _tasks.Count, Inputs, _random);
        Dictionary<string, (long[] Shape, float[] Values)> theirs = library.Tensors.ToDictionary(t => $"net.{t.Key}", t => t.Value);
        theirs["emb.city"] = ([9, 2], Numbers(18));
        Save("theirs.safetensors", theirs);
        WriteModel(architecture, "{ \"name\": \"numbers\", \"type\": \"vector\", \"size\": 3 }, { \"name\": \"city\", \"type\": \"categorical\", \"dimension\": 2 }");
        File.WriteAllText(In("map.json"), "{ \"embeddings.city.weight\": \"emb.city\" }");

        ToolResult imported = Import("--layout", "adatt", "--prefix", "net.", "--names", In("map.json"), "--output", "json");

        Assert.True(imported.ExitCode == 0, imported.Error);
        using SafetensorsReader ours = SafetensorsReader.Open(In("ours.safetensors"));
        float[] table = new float[18];
        ours.ReadSingles("embeddings.city.weight", table);
        Assert.Equal(theirs["emb.city"].Values, table);
        Assert.Equal(theirs["net.mtl_arch.bottom_projection.mlp_net.2.weight"].Shape, ours.Header["bottom.layers.1.weight"].Shape);
    }

    /// <summary>A map alone, one entry of which puts several tensors into one parameter.</summary>
    [Fact]
    public void Import_MapAlone_StacksTensors()
    {
        WriteModel("\"type\": \"mmoe\", \"experts\": { \"count\": 2, \"layers\": [3] }");
        Dictionary<string, (long[] Shape, float[] Values)> theirs = new()
        {
            ["e0.w"] = ([3, Inputs], Numbers(3 * Inputs)),
            ["e1.w"] = ([3, Inputs], Numbers(3 * Inputs)),
            ["e.b"] = ([2, 3], Numbers(6)),
            ["g0"] = ([2, Inputs], Numbers(2 * Inputs)),
            ["g1"] = ([2, Inputs], Numbers(2 * Inputs)),
            ["g2"] = ([2, Inputs], Numbers(2 * Inputs)),
            ["gb"] = ([6], Numbers(6)),
        };
        List<string> towers = [];
        foreach (string task in _tasks)
        {
            theirs[$"{task}.w"] = ([1, 3], Numbers(3));
            theirs[$"{task}.b"] = ([1], Numbers(1));
            towers.Add($"\"towers.{task}.layers.0.weight\": \"{task}.w\", \"towers.{task}.layers.0.bias\": \"{task}.b\"");
        }

        Save("theirs.safetensors", theirs);
        File.WriteAllText(In("map.json"), $$"""
            {
              // experts of their own, gates of their own
              "experts.layers.0.weight": ["e0.w", "e1.w"], "experts.layers.0.bias": "e.b",
              "gate.weight": ["g0", "g1", "g2"], "gate.bias": "gb", {{string.Join(", ", towers)}},
            }
            """);
        ToolResult imported = Import("--names", In("map.json"));

        Assert.True(imported.ExitCode == 0, imported.Error);
        using SafetensorsReader ours = SafetensorsReader.Open(In("ours.safetensors"));
        float[] experts = new float[6 * Inputs];
        ours.ReadSingles("experts.layers.0.weight", experts);
        Assert.Equal([.. theirs["e0.w"].Values, .. theirs["e1.w"].Values], experts);
        float[] gates = new float[6 * Inputs];
        ours.ReadSingles("gate.weight", gates);
        Assert.Equal([.. theirs["g0"].Values, .. theirs["g1"].Values, .. theirs["g2"].Values], gates);
    }

    [Fact]
    public void Import_TensorsThatDoNotFit_NamesThemAllAndWritesNothing()
    {
        const string architecture = "\"type\": \"adatt\", \"experts\": { \"per_task\": 2, \"levels\": [[6], [4]] }, \"tower\": [3]";
        Dictionary<string, (long[] Shape, float[] Values)> theirs = new AdattLibrary(architecture, _tasks.Count, Inputs, _random).Tensors;
        theirs.Remove("mtl_arch.experts.0.3.mlp_net.0.bias");
        theirs["mtl_arch.gate_weights.1.2.0.weight"] = ([6, 7], Numbers(42));
        theirs["over.there"] = ([1, 2], Numbers(2));
        WriteModel(architecture);
        Save("theirs.safetensors", theirs);

        ToolResult result = Import("--layout", "adatt");

        Assert.Equal(2, result.ExitCode);
        Assert.Contains("tensor \"mtl_arch.experts.0.3.mlp_net.0.bias\" [6] of parameter \"levels.0.experts.layers.0.bias\" is missing", result.Error, StringComparison.Ordinal);
        Assert.Contains("tensor \"mtl_arch.gate_weights.1.2.0.weight\" has shape [6, 7]; parameter \"levels.1.gate.weight\" needs [6, 6]", result.Error, StringComparison.Ordinal);
        Assert.Contains("tensor \"over.there\" [1, 2] has no place", result.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(In("ours.safetensors")));
    }

    [Theory]
    [InlineData("\"type\": \"single_task\", \"bottom\": [4]", "architecture.type is single_task")]
    [InlineData("\"type\": \"shared_bottom\", \"bottom\": [4], \"activation\": \"tanh\"", "architecture.activation is tanh")]
    [InlineData("\"type\": \"mmoe\", \"experts\": { \"count\": 2, \"layers\": [3] }, \"gate\": { \"top_k\": 1 }", "architecture.gate is sparse")]
    [InlineData("\"type\": \"mmoe\", \"experts\": { \"count\": 2, \"layers\": [3] }, \"gate\": { \"bias\": false }", "architecture.gate.bias is false")]
    [InlineData("\"type\": \"ml_mmoe\", \"experts\": { \"count\": 2, \"levels\": [[3]] }, \"gate\": { \"sharing\": \"shared\" }", "architecture.gate.sharing is shared")]
    [InlineData("\"type\": \"adatt\", \"experts\": { \"levels\": [[3]] }, \"gate\": { \"input\": \"trunk\" }", "architecture.gate.input is trunk")]
    [InlineData("\"type\": \"adatt\", \"experts\": { \"levels\": [[3]], \"native\": \"learned\" }", "architecture.experts.native is learned")]
    public void Import_ModelThatTheLibraryHasNot_IsRefused(string architecture, string message)
    {
        WriteModel(architecture);
        Save("theirs.safetensors", new() { ["a"] = ([1], [1]) });

        ToolResult result = Import("--layout", "adatt");

        Assert.Equal(2, result.ExitCode);
        Assert.Contains(message, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Import_WrongArguments_AreRefused()
    {
        WriteModel("\"type\": \"shared_bottom\", \"bottom\": [4]");
        Save("theirs.safetensors", new() { ["a"] = ([1], [1]) });
        Assert.Contains("neither --layout nor --names", Import().Error, StringComparison.Ordinal);
        Assert.Contains("there is no name map", Import("--names", In("none.json")).Error, StringComparison.Ordinal);
        File.WriteAllText(In("map.json"), "{ \"bottom.layers.0.weight\": 3 }");
        Assert.Contains("\"bottom.layers.0.weight\" is 3; it must be the name of a tensor", Import("--names", In("map.json")).Error, StringComparison.Ordinal);
        Assert.Contains("--prefix has no effect without --layout", Import("--names", In("map.json"), "--prefix", "x").Error, StringComparison.Ordinal);
        File.WriteAllText(In("map.json"), "{ \"botom.layers.0.weight\": \"a\" }");
        Assert.Contains("the map names \"botom.layers.0.weight\", which is no parameter", Import("--names", In("map.json")).Error, StringComparison.Ordinal);
    }

    private ToolResult Import(params string[] more) =>
        ToolProcess.RunHere(["import", In("model.json"), "--from", In("theirs.safetensors"), "--to", In("ours.safetensors"), .. more]);

    private Dictionary<string, float[]> Probe(float[] x)
    {
        Save("inputs.safetensors", new() { ["x"] = ([Rows, Inputs], x) });
        ToolResult result = ToolProcess.RunHere(
            "probe", In("model.json"), "--parameters", In("ours.safetensors"), "--inputs", In("inputs.safetensors"), "--to", In("answer.safetensors"), "--device", TestDevices.Default);
        Assert.True(result.ExitCode == 0, result.Error);
        using SafetensorsReader reader = SafetensorsReader.Open(In("answer.safetensors"));
        return reader.Header.Tensors.ToDictionary(t => t.Name, t =>
        {
            float[] values = new float[t.Count];
            reader.ReadSingles(t.Name, values);
            return values;
        });
    }

    private void WriteModel(string architecture, string? features = null) => _folder.Write(
        "model.json",
        $$"""
        {
          "name": "imported",
          "features": [{{features ?? $"{{ \"name\": \"x\", \"type\": \"vector\", \"size\": {Inputs} }}"}}],
          "tasks": [{{string.Join(", ", _tasks.Select(task => $"{{ \"name\": \"{task}\", \"type\": \"binary\" }}"))}}],
          "architecture": { {{architecture}} },
        }
        """);

    private void Save(string name, Dictionary<string, (long[] Shape, float[] Values)> tensors)
    {
        SafetensorsWriter writer = new();
        foreach ((string tensor, (long[] shape, float[] values)) in tensors)
            writer.Add(tensor, TensorDataType.F32, shape, values);
        writer.Save(In(name));
    }

    private float[] Numbers(long count) => [.. Enumerable.Range(0, (int)count).Select(_ => (float)(_random.NextDouble() - 0.5))];

    private string In(string name) => Path.Combine(_folder.Path, name);
}
