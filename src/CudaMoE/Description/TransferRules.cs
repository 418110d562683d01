using System.Text.Json;
using static CudaMoE.Description.DescriptionValidator;

namespace CudaMoE.Description;

/// <summary>The rules of a chain of tasks.</summary>
internal static class TransferRules
{
    private const string Path = "architecture.transfer";

    private static readonly ModelType[] Types =
        [ModelType.SingleTask, ModelType.Mmoe, ModelType.MlMmoe, ModelType.Cgc, ModelType.Ple, ModelType.Adatt, ModelType.CrossStitch, ModelType.Stem];

    public static void Check(ModelDescription description)
    {
        ArchitectureDescription architecture = description.Architecture;
        if (architecture.Transfer is not { } transfer)
            return;
        if (!Types.Contains(architecture.Type))
            throw Error(Path, $"needs a representation of each task, which type {Name(architecture.Type)} has not or couples itself; remove it or take one of {string.Join(", ", Types.Select(Name))}");
        if (architecture is { Type: ModelType.SingleTask, Bottom.Count: 0 })
            throw Error("architecture.bottom", $"is empty; with transfer each task needs layers of its own, so give at least one width");
        if (architecture.Gate.Sharing == GateSharing.Shared)
            throw Error("architecture.gate.sharing", $"is shared, so that all tasks have one representation; with transfer it must be per_task");
        IReadOnlyList<TaskDescription> chain = Chain(description);
        if (chain.Count < 2)
            throw Error(Path + ".chain", $"has {chain.Count} tasks; it must have at least 2");
        if (transfer.Penalty > 0 && chain.FirstOrDefault(task => task.Type != TaskType.Binary) is { } other)
            throw Error(Path + ".penalty", $"is {transfer.Penalty}, but task \"{other.Name}\" of the chain is {JsonNamingPolicy.SnakeCaseLower.ConvertName(other.Type.ToString())} and has no probability to compare; set it to 0 or leave the task out of the chain");
    }

    /// <summary>The tasks of the chain.</summary>
    private static IReadOnlyList<TaskDescription> Chain(ModelDescription description)
    {
        IReadOnlyList<string> names = description.Architecture.Transfer!.Chain;
        if (names.Count == 0)
            return description.Tasks;
        CheckUnique(names, Path + ".chain");
        List<TaskDescription> chain = [];
        for (int i = 0; i < names.Count; i++)
        {
            chain.Add(description.Tasks.FirstOrDefault(task => task.Name == names[i])
                ?? throw Error($"{Path}.chain[{i}]", $"is \"{names[i]}\", which is no task{NearestName.Suggestion(names[i], [.. description.Tasks.Select(task => task.Name)])}"));
        }

        return chain;
    }

    private static string Name(ModelType type) => JsonNamingPolicy.SnakeCaseLower.ConvertName(type.ToString());
}
