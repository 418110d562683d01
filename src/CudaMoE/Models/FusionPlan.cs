using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// A level of a fusion trunk. It has units; a unit owns experts, which all read what the unit made at the level below (at the first level, the trunk's
/// input). Output g of the level is a weighted sum of all the level's experts, and what unit g of the level above reads.
/// </summary>
internal sealed record FusionLevelPlan
{
    /// <summary>Experts of each unit: the tasks' units first, then a shared one where there is one.</summary>
    public required IReadOnlyList<int> Units { get; init; }

    /// <summary>Units that belong to tasks.</summary>
    public required int TaskUnits { get; init; }

    /// <summary>Widths of an expert's layers.</summary>
    public required IReadOnlyList<int> Widths { get; init; }

    /// <summary>Number of outputs.</summary>
    public required int Outputs { get; init; }

    /// <summary>Whether a gate an output weighs the experts of each sample; without, the weights are trained and the same for all samples.</summary>
    public bool Gated { get; init; } = true;

    /// <summary>What the gates read.</summary>
    public GateInput GateInput { get; init; } = GateInput.Unit;

    /// <summary>Whether gates have a bias.</summary>
    public bool GateBias { get; init; } = true;

    /// <summary>For each gate the experts that it sees; null = all gates see all.</summary>
    public IReadOnlyList<IReadOnlyList<ExpertRange>>? Visible { get; init; }

    /// <summary>Weights of a unit's own experts beside its gate; never auto.</summary>
    public NativeResidual Native { get; init; } = NativeResidual.None;

    /// <summary>Without gates: first weight of a task's own network; null = drawn.</summary>
    public double? OwnWeight { get; init; }

    /// <summary>Experts of all units.</summary>
    public int Experts => Units.Sum();
}

/// <summary>The models of the fusion family as levels.</summary>
internal static class FusionPlan
{
    /// <summary>The levels of a model.</summary>
    /// <param name="architecture">Of type ml_mmoe, cgc, ple, adatt or cross_stitch.</param>
    /// <param name="tasks">Number of tasks.</param>
    public static IReadOnlyList<FusionLevelPlan> Create(ArchitectureDescription architecture, int tasks)
    {
        ExpertsDescription experts = architecture.Experts!;
        IReadOnlyList<IReadOnlyList<int>> levels = architecture.Type == ModelType.Cgc ? [experts.Layers] : experts.Levels;
        return [.. levels.Select((widths, level) => Level(architecture, tasks, widths, last: level == levels.Count - 1))];
    }

    private static FusionLevelPlan Level(ArchitectureDescription architecture, int tasks, IReadOnlyList<int> widths, bool last)
    {
        ExpertsDescription experts = architecture.Experts!;
        int own = experts.PerTask ?? 1;
        int shared = experts.Shared ?? 0;
        List<int> units = [.. Enumerable.Repeat(own, tasks)];
        if (shared > 0)
            units.Add(shared);
        int outputs = last ? tasks : units.Count;
        GateInput input = architecture.Gate.Input ?? GateInput.Unit;
        bool bias = architecture.Gate.Bias;
        return architecture.Type switch
        {
            ModelType.Adatt => new()
            {
                Units = units,
                TaskUnits = tasks,
                Widths = widths,
                Outputs = outputs,
                GateInput = input,
                GateBias = bias,
                Native = experts.Native == NativeResidual.Auto
                    ? units.All(count => count == 1) ? NativeResidual.Unit : NativeResidual.Learned
                    : experts.Native,
            },
            ModelType.Cgc or ModelType.Ple => new()
            {
                Units = units,
                TaskUnits = tasks,
                Widths = widths,
                Outputs = outputs,
                GateInput = input,
                GateBias = bias,
                Visible = [.. Enumerable.Range(0, outputs).Select(unit => OwnAndShared(unit, tasks, own, shared))],
            },
            ModelType.CrossStitch => new()
            {
                Units = [.. Enumerable.Repeat(1, tasks)],
                TaskUnits = tasks,
                Widths = widths,
                Outputs = tasks,
                Gated = false,
                OwnWeight = architecture.StitchOwnWeight,
            },
            ModelType.MlMmoe => new()
            {
                Units = [.. Enumerable.Repeat(1, experts.Count!.Value)],
                TaskUnits = 0,
                Widths = widths,
                Outputs = !last ? experts.Count.Value : architecture.Gate.Sharing == GateSharing.Shared ? 1 : tasks,
                GateInput = GateInput.Trunk,
                GateBias = bias,
            },
            _ => throw new ArgumentException($"{architecture.Type} is not made of fusion levels", nameof(architecture)),
        };
    }

    /// <summary>A task sees its own and the shared experts, the shared unit all.</summary>
    private static IReadOnlyList<ExpertRange> OwnAndShared(int unit, int tasks, int own, int shared) =>
        unit < tasks ? [new(unit * own, own), new(tasks * own, shared)] : [new(0, (tasks * own) + shared)];
}
