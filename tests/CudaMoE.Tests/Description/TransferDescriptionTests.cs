using CudaMoE.Description;
using CudaMoE.Tests.Models;

namespace CudaMoE.Tests.Description;

/// <summary>The rules of chains of tasks.</summary>
public sealed class TransferDescriptionTests
{
    private static readonly ArchitectureDescription Good = new() { Type = ModelType.SingleTask, Bottom = [8], Transfer = new() };

    [Fact]
    public void GoodDescriptions_AreTaken()
    {
        Validate(Good);
        Validate(Good with { Transfer = new() { Chain = ["share", "click"], Penalty = 0, StopGradient = true } });
        Validate(Good with { Type = ModelType.Ple, Bottom = [], Experts = new() { Levels = [[4]], Shared = 1 } });
        DescriptionValidator.Validate(TestModels.Describe(Good with { Transfer = new() { Penalty = 0 } }, TestModels.MixedTasks));
        DescriptionValidator.Validate(TestModels.Describe(Good, TestModels.BinaryTasks, new() { Balancer = new() { Type = BalancerType.Mgda, Place = RepresentationPlace.TrunkInput } }));
    }

    [Fact]
    public void WrongDescriptions_NameTheKeyAndTheRule()
    {
        Refused("which type shared_bottom has not", Good with { Type = ModelType.SharedBottom });
        Refused("which type grec has not", Good with { Type = ModelType.Grec, Bottom = [], Experts = new() { Count = 2, Layers = [4] }, Grec = new(), Gate = new() { TopK = 1 } });
        Refused("architecture.bottom is empty", Good with { Bottom = [] });
        Refused("architecture.gate.sharing is shared", Good with { Type = ModelType.Mmoe, Bottom = [], Experts = new() { Count = 2, Layers = [4] }, Gate = new() { Sharing = GateSharing.Shared } });
        Refused("architecture.transfer.chain has 1 tasks; it must have at least 2", Good with { Transfer = new() { Chain = ["click"] } });
        Refused("architecture.transfer.chain[1] is \"shre\", which is no task", Good with { Transfer = new() { Chain = ["click", "shre"] } });
        Refused("architecture.transfer.chain[2] is \"click\", which architecture.transfer.chain[0] is already", Good with { Transfer = new() { Chain = ["click", "like", "click"] } });
        Refused("architecture.transfer.penalty is -1", Good with { Transfer = new() { Penalty = -1 } });
        Assert.Contains("task \"stars\" of the chain is multiclass", Error(TestModels.Describe(Good, TestModels.MixedTasks)));
        Assert.Contains("architecture.transfer.chain has 1 tasks", Error(TestModels.Describe(Good, [TestModels.BinaryTasks[0]])));
    }

    [Fact]
    public void Json_ReadsDefaultsAndKeys()
    {
        ModelDescription description = DescriptionJson.Parse("""
            {
              "name": "chain", "features": [{ "name": "age", "type": "dense" }],
              "tasks": [{ "name": "click", "type": "binary" }, { "name": "buy", "type": "binary" }],
              "architecture": { "type": "single_task", "bottom": [4], "transfer": { "stop_gradient": true } }
            }
            """);
        TransferDescription transfer = description.Architecture.Transfer!;
        Assert.Equal((0.6f, true, 0), (transfer.Penalty, transfer.StopGradient, transfer.Chain.Count));
        Assert.Contains("transfer.penalti", Assert.Throws<DescriptionException>(() => DescriptionJson.Parse("""
            {
              "name": "chain", "features": [{ "name": "age", "type": "dense" }],
              "tasks": [{ "name": "click", "type": "binary" }, { "name": "buy", "type": "binary" }],
              "architecture": { "type": "single_task", "bottom": [4], "transfer": { "penalti": 1 } }
            }
            """)).Message);
    }

    private static void Refused(string message, ArchitectureDescription architecture) => Assert.Contains(message, Error(TestModels.Describe(architecture, TestModels.BinaryTasks)));

    private static string Error(ModelDescription description) => Assert.Throws<DescriptionException>(() => DescriptionValidator.Validate(description)).Message;

    private static void Validate(ArchitectureDescription architecture) => DescriptionValidator.Validate(TestModels.Describe(architecture, TestModels.BinaryTasks));
}
