using System.Globalization;
using CudaMoE.Description;
using CudaMoE.Export;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Export;

/// <summary>What is in the files: header, structure, constants in one file or two.</summary>
public sealed class ExportFileTests : IDisposable
{
    private static readonly ArchitectureDescription Architecture = new()
    {
        Type = ModelType.Mmoe,
        Experts = new() { Count = 3, Layers = [6, 4] },
        Gate = new() { TopK = 2 },
        Tower = [5],
    };

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Export_Header_NamesFormatProducerAndOperatorSets()
    {
        using ExportScenario scenario = new(_folder, Architecture, ExportRows.Binary, new(1));

        OnnxModel ids = new(scenario.Export().File);

        Assert.Equal(8, ids.Message.Integer(1));
        Assert.Equal("CudaMoE", ids.Message.Text(2));
        Assert.Equal("export", ids.GraphName);
        Assert.Equal(new Dictionary<string, long> { [""] = 17 }, ids.OperatorSets);
        Assert.Equal(["cudamoe.schema"], ids.Metadata.Keys);

        OnnxModel texts = new(scenario.Export(new() { Texts = true }).File);

        Assert.Equal(new Dictionary<string, long> { [""] = 17, ["ai.onnx.ml"] = 3 }, texts.OperatorSets);
    }

    /// <summary>Names are unique, every value is made before it is read, and every constant and node is used.</summary>
    [Theory]
    [InlineData(ModelType.Mmoe)]
    [InlineData(ModelType.Ple)]
    [InlineData(ModelType.CrossStitch)]
    public void Export_Graph_IsInOrderAndHasNothingUnused(ModelType type)
    {
        ArchitectureDescription architecture = type == ModelType.Mmoe
            ? Architecture
            : new() { Type = type, Experts = new() { Levels = [[6], [5]], Shared = type == ModelType.Ple ? 1 : null }, LayerNorm = true, Projection = 7 };
        using ExportScenario scenario = new(_folder, architecture, ExportRows.Chain, new(2));

        OnnxModel model = new(scenario.Export(new() { Texts = true }).File);

        HashSet<string> made = [.. model.Constants.Keys, .. model.Inputs.Select(i => i.Name)];
        Assert.Equal(model.Constants.Count + model.Inputs.Count, made.Count);
        HashSet<string> read = [];
        HashSet<string> names = [];
        foreach (OnnxNode node in model.Nodes)
        {
            Assert.True(names.Add(node.Name), node.Name);
            Assert.All(node.Inputs, input => Assert.Contains(input, made));
            read.UnionWith(node.Inputs);
            foreach (string output in node.Outputs)
                Assert.True(made.Add(output), output);
        }

        read.UnionWith(model.Outputs.Select(o => o.Name));
        // The values of a TopK are read, or its places, not always both.
        Assert.DoesNotContain(made.Except(read), name => !name.Contains("TopK", StringComparison.Ordinal));
    }

    /// <summary>A small model as it stands: a change of this text is a change of what users' tools see.</summary>
    [Fact]
    public void Export_SmallModel_HasThisStructure()
    {
        ArchitectureDescription small = new() { Type = ModelType.Mmoe, Experts = new() { Count = 2, Layers = [4] } };
        using ExportScenario scenario = new(_folder, small, [ExportRows.Binary[2]], new(5));

        OnnxModel model = new(scenario.Export(new() { Gates = true }).File);

        string text = string.Join('\n', model.Nodes.Where(n => !n.Name.StartsWith("/features", StringComparison.Ordinal)).Select(n => $"{string.Join(' ', n.Outputs)} = {n.Type}({string.Join(", ", n.Inputs)})"));
        Assert.Equal(
            """
            /experts/Gemm = Gemm(/features/Concat_3, experts.layers.0.weight, experts.layers.0.bias)
            /experts/Relu = Relu(/experts/Gemm)
            /experts/Reshape = Reshape(/experts/Relu, /experts/Constant)
            /gate/Gemm = Gemm(/features/Concat_3, gate.weight, gate.bias)
            /gate/Reshape = Reshape(/gate/Gemm, /gate/Constant)
            /gate/Softmax = Softmax(/gate/Reshape)
            /gate/MatMul = MatMul(/gate/Softmax, /experts/Reshape)
            /gate/Reshape_1 = Reshape(/gate/MatMul, /gate/Constant_1)
            /towers.click/Gemm = Gemm(/gate/Reshape_1, towers.click.layers.0.weight, towers.click.layers.0.bias)
            click.logit = Identity(/towers.click/Gemm)
            /towers.click/Sigmoid = Sigmoid(/towers.click/Gemm)
            click.probability = Identity(/towers.click/Sigmoid)
            gates.0 = Identity(/gate/Softmax)
            """,
            text);
        Assert.Equal(["batch", "1"], model.Inputs.Single(i => i.Name == "user").Shape);
        Assert.Equal(["batch", "tags.length"], model.Inputs.Single(i => i.Name == "tags").Shape);
        Assert.Equal(["batch", "3"], model.Inputs.Single(i => i.Name == "history").Shape);
        Assert.Equal(["batch", "1", "2"], model.Outputs.Single(o => o.Name == "gates.0").Shape);
        Assert.Equal(
            [OnnxType.Int64, OnnxType.Double, OnnxType.Int64, OnnxType.Int64, OnnxType.Double, OnnxType.Int64, OnnxType.Float],
            model.Inputs.Take(7).Select(i => i.Type));
    }

    [Fact]
    public void Export_SharedTables_AreThereOnce()
    {
        using ExportScenario scenario = new(_folder, Architecture, ExportRows.Binary, new(6));

        OnnxModel model = new(scenario.Export().File);

        Assert.Single(model.Constants.Keys, name => name.StartsWith("embeddings.items", StringComparison.Ordinal));
        Assert.Equal(2, model.Nodes.Count(n => n.Type == "Gather" && n.Inputs[0] == "embeddings.items.weight"));
    }

    [Fact]
    public void Export_TwoFiles_HoldTheSameConstantsAsOne()
    {
        // Wide enough that some constants are large and some not.
        ArchitectureDescription wide = Architecture with { Projection = 64 };
        using ExportScenario scenario = new(_folder, wide, ExportRows.Binary, new(7));
        OnnxExportResult one = scenario.Export();
        OnnxModel whole = new(one.File);
        Assert.Null(one.DataFile);
        Assert.Equal(new FileInfo(one.File).Length, one.Bytes);

        OnnxExportResult two = scenario.Export(new() { ExternalData = true });

        OnnxModel parted = new(two.File);
        Assert.Equal(two.File + ".data", two.DataFile);
        Assert.NotEmpty(parted.External);
        Assert.Equal(whole.Constants.Keys, parted.Constants.Keys);
        foreach ((string name, OnnxArray constant) in whole.Constants)
        {
            Assert.Equal(constant.Values, parted.Constants[name].Values);
            Assert.Equal(constant.Type is OnnxType.Float && constant.Count >= 256, parted.External.ContainsKey(name));
        }

        long end = 0;
        foreach ((long offset, long length) in parted.External.Values.OrderBy(place => place.Offset))
        {
            Assert.Equal(0, offset % 4096);
            Assert.True(offset >= end, "constants do not overlap");
            end = offset + length;
        }

        Assert.True(new FileInfo(two.DataFile!).Length >= end);
        Assert.Equal(new FileInfo(two.File).Length + new FileInfo(two.DataFile!).Length, two.Bytes);
    }

    [Fact]
    public void Export_ModelBeyondTheLimitOfAFile_HasTwoByItself()
    {
        using ExportScenario scenario = new(_folder, Architecture with { Projection = 64 }, ExportRows.Binary, new(8));
        long bytes = scenario.Export().Bytes;

        Assert.Null(scenario.Export(limit: bytes).DataFile);
        OnnxExportResult two = scenario.Export(limit: bytes - 1);

        Assert.NotNull(two.DataFile);
        Assert.NotEmpty(new OnnxModel(two.File).External);
        ExportException error = Assert.Throws<ExportException>(() => scenario.Export(limit: 4000));
        Assert.Contains(4000.ToString(CultureInfo.InvariantCulture), error.Message, StringComparison.Ordinal);
        Assert.Contains("vocabularies", error.Message, StringComparison.Ordinal);
        Assert.Equal(two.Bytes, new FileInfo(two.File).Length + new FileInfo(two.DataFile!).Length);
    }
}
