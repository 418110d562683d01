using CudaMoE.Description;
using CudaMoE.Tests.Models;

namespace CudaMoE.Tests.Description;

/// <summary>The rules of mgoe models.</summary>
public sealed class MacroDescriptionTests
{
    private static readonly MacroDescription Macro = new() { User = "user", Item = "item" };

    private static readonly ArchitectureDescription Good = new() { Type = ModelType.Mgoe, Experts = new() { Shared = 1, Layers = [8] }, Macro = Macro };

    [Fact]
    public void GoodDescriptions_AreTaken()
    {
        Validate(Good);
        Validate(Good with { Macro = new() { Tables = MacroTables.None, Coupling = false } });
        Validate(Good with { Macro = Macro with { Coupling = false }, Experts = new() { Shared = 2, PerTask = 3, Layers = [8, 300] } });
    }

    [Fact]
    public void WrongDescriptions_NameTheKeyAndTheRule()
    {
        Refused("architecture.macro is missing", Good with { Macro = null });
        Refused("architecture.macro has no effect here", Good with { Type = ModelType.Cgc });
        Refused("architecture.projection has no effect here", Good with { Projection = 8 });
        Refused("architecture.layer_norm has no effect here", Good with { LayerNorm = true });
        Refused("ends with 300; with coupling it must be at most 256", Good with { Experts = new() { Shared = 1, Layers = [8, 300] } });
        Refused("architecture.experts.shared is missing", Good with { Experts = new() { Layers = [8] } });
        Refused("architecture.experts.layers is empty", Good with { Experts = new() { Shared = 1 } });
        Refused("architecture.experts.count has no effect here", Good with { Experts = new() { Shared = 1, Layers = [8], Count = 2 } });
        Refused("only types mmoe and grec have it", Good with { Gate = new() { TopK = 1 } });
        Refused("architecture.macro.user is missing", Good with { Macro = Macro with { User = null } });
        Refused("\"persn\", which is no feature", Good with { Macro = Macro with { User = "persn" } });
        Refused("\"tags\"; it must be a categorical feature", Good with { Macro = Macro with { Item = "tags" } });
        Refused("which is the user already", Good with { Macro = Macro with { Item = "user" } });
        Refused("user_nodes is 0", Good with { Macro = Macro with { UserNodes = 0 } });
        Refused("has keys without effect", Good with { Macro = Macro with { Tables = MacroTables.None } });
        ModelDescription wide = TestModels.Describe(Good, TestModels.BinaryTasks);
        wide = wide with { Features = [wide.Features[0] with { Dimension = 200 }, .. wide.Features.Skip(1)] };
        Assert.Contains("dimension 200; it must be at most 128", Error(wide));
        DescriptionValidator.Validate(wide with { Architecture = Good with { Macro = Macro with { Attention = MacroAttention.Degenerate } } });
        ModelDescription hashed = TestModels.Describe(Good, TestModels.BinaryTasks);
        hashed = hashed with { Features = [hashed.Features[0] with { Encoding = CategoryEncoding.Hash, Buckets = 100 }, .. hashed.Features.Skip(1)] };
        Assert.Contains("encoding vocabulary or identity", Error(hashed));
    }

    [Fact]
    public void Parse_WithAFolder_GivesTheGraphAFullPath()
    {
        ModelDescription model = TestModels.Describe(Good, TestModels.BinaryTasks) with { Data = new() { Train = ["train.csv"], Graph = "shop.graph" } };
        ModelDescription parsed = DescriptionJson.Parse(DescriptionJson.Write(model), "/data/shop");
        Assert.Equal(Path.GetFullPath("/data/shop/shop.graph"), parsed.Data!.Graph);
        Assert.Equal([Path.GetFullPath("/data/shop/train.csv")], parsed.Data.Train);
    }

    [Fact]
    public void Graph_IsOfMgoeModelsOnly()
    {
        DataDescription data = new() { Train = ["a.csv"] };
        ModelDescription model = TestModels.Describe(Good, TestModels.BinaryTasks);
        DescriptionValidator.Validate(model with { Data = data with { Graph = "a.graph" } });
        Assert.Contains("data.graph is missing", Error(model with { Data = data }));
        Assert.Contains("data.graph has no effect", Error(model with { Data = data with { Graph = "a.graph" }, Architecture = Good with { Macro = new() { Tables = MacroTables.None } } }));
    }

    private static void Refused(string message, ArchitectureDescription architecture) => Assert.Contains(message, Error(TestModels.Describe(architecture, TestModels.BinaryTasks)));

    private static string Error(ModelDescription description) => Assert.Throws<DescriptionException>(() => DescriptionValidator.Validate(description)).Message;

    private static void Validate(ArchitectureDescription architecture) => DescriptionValidator.Validate(TestModels.Describe(architecture, TestModels.BinaryTasks));
}
