using System.Text.Json;
using static CudaMoE.Description.DescriptionValidator;

namespace CudaMoE.Description;

/// <summary>The rules of the architecture.</summary>
internal static class ArchitectureRules
{
    private const string Path = "architecture";
    private const int MaxExperts = 4096;

    public static void Check(ModelDescription description)
    {
        ArchitectureDescription architecture = description.Architecture;
        ArchitectureDescription defaults = new() { Type = architecture.Type };
        if (architecture.ActivationSlope != defaults.ActivationSlope && architecture.Activation != ActivationKind.LeakyRelu)
            throw Error(Path + ".activation_slope", $"has no effect here; only activation leaky_relu has it; remove it");
        if (architecture.StitchOwnWeight != defaults.StitchOwnWeight && architecture.Type != ModelType.CrossStitch)
            throw Error(Path + ".stitch_own_weight", $"has no effect here; only type cross_stitch has it; remove it");
        GrecRules.Check(description);
        MacroRules.Check(description);
        TransferRules.Check(description);
        StemRules.Check(description);
        if (architecture.Type is ModelType.SingleTask or ModelType.SharedBottom)
        {
            if (architecture.Experts is not null)
                throw Error(Path + ".experts", $"has no effect here; only types {Names(Enum.GetValues<ModelType>().Where(HasExperts))} have experts; remove it or change the type");
            if (architecture.Gate != defaults.Gate)
                throw Error(Path + ".gate", $"has no effect here; only types {Names(Enum.GetValues<ModelType>().Where(HasGates))} have gates; remove it or change the type");
            return;
        }

        if (architecture.Experts is not { } experts)
            throw Error(Path + ".experts", $"is missing; type {Name(architecture.Type)} needs it");
        if (architecture.Bottom.Count > 0)
            throw Error(Path + ".bottom", $"has no effect here; type {Name(architecture.Type)} has experts instead, and a \"projection\" below them; remove it");
        CheckExperts(architecture.Type, experts, description.Tasks.Count);
        if (architecture.Type is ModelType.Mmoe or ModelType.Grec)
            CheckMixtureGate(architecture.Gate, experts.Count!.Value, Path + ".gate");
        else
            CheckFusionGate(architecture.Type, architecture.Gate, Path + ".gate");
    }

    /// <summary>Whether all towers read the same representation.</summary>
    public static bool TowersShareInput(ArchitectureDescription architecture) =>
        (!HasExperts(architecture.Type) && architecture.Transfer == null) || architecture.Gate.Sharing == GateSharing.Shared || architecture.Grec?.Routing == RoutingLevel.Token;

    private static bool HasExperts(ModelType type) => type is not (ModelType.SingleTask or ModelType.SharedBottom);

    private static bool HasGates(ModelType type) => HasExperts(type) && type != ModelType.CrossStitch;

    private static void CheckExperts(ModelType type, ExpertsDescription experts, int tasks)
    {
        const string path = Path + ".experts";
        ModelType[] alike = [ModelType.Mmoe, ModelType.MlMmoe, ModelType.Grec];
        ModelType[] owned = [ModelType.Cgc, ModelType.Ple, ModelType.Adatt, ModelType.Mgoe, ModelType.Stem];
        ModelType[] oneLevel = [ModelType.Mmoe, ModelType.Cgc, ModelType.Grec, ModelType.Mgoe, ModelType.Stem];
        ModelType[] levels = [ModelType.MlMmoe, ModelType.Ple, ModelType.Adatt, ModelType.CrossStitch];
        CheckEffect(experts.Count is not null, "count", alike);
        CheckEffect(experts.PerTask is not null, "per_task", owned);
        CheckEffect(experts.Shared is not null, "shared", owned);
        CheckEffect(experts.Layers.Count > 0, "layers", oneLevel);
        CheckEffect(experts.Levels.Count > 0, "levels", levels);
        CheckEffect(experts.Native != NativeResidual.Auto, "native", [ModelType.Adatt]);
        if (alike.Contains(type) && experts.Count is null)
            throw Error(path + ".count", $"is missing; type {Name(type)} needs it");
        if (oneLevel.Contains(type) && experts.Layers.Count == 0)
            throw Error(path + ".layers", $"is empty; an expert needs at least one layer");
        if (levels.Contains(type) && experts.Levels.Count == 0)
            throw Error(path + ".levels", $"is empty; type {Name(type)} needs at least one level, a list of the widths of its experts' layers");
        for (int level = 0; level < experts.Levels.Count; level++)
        {
            if (experts.Levels[level].Count == 0)
                throw Error(FormattableString.Invariant($"{path}.levels[{level}]"), $"is empty; an expert needs at least one layer");
        }

        if (type is ModelType.Cgc or ModelType.Ple or ModelType.Mgoe or ModelType.Stem && experts.Shared is not >= 1)
            throw Error(path + ".shared", $"is {(experts.Shared is null ? "missing" : "0")}; type {Name(type)} needs at least 1, since nothing else joins the tasks");
        long total = ((long)tasks * (experts.PerTask ?? 1)) + (experts.Shared ?? 0);
        if (owned.Contains(type) && total > MaxExperts)
            throw Error(path + ".per_task", $"gives {total} experts a level: {tasks} tasks of {experts.PerTask ?? 1}, and {experts.Shared ?? 0} shared; it must be at most {MaxExperts}");

        void CheckEffect(bool given, string key, ModelType[] types)
        {
            if (given && !types.Contains(type))
                throw Error($"{path}.{key}", $"has no effect here; only {(types.Length == 1 ? "type" : "types")} {Names(types)} {(types.Length == 1 ? "has" : "have")} it; remove it");
        }
    }

    private static void CheckFusionGate(ModelType type, GateDescription gate, string path)
    {
        GateDescription defaults = new();
        if (!HasGates(type) && gate != defaults)
            throw Error(path, $"has no effect here; a {Name(type)} model mixes by trained matrices; remove it");
        if (gate.Input is not null && type is not (ModelType.Adatt or ModelType.Ple))
            throw Error(path + ".input", $"has no effect here; only types {Names([ModelType.Ple, ModelType.Adatt])} have it; remove it");
        if (gate.Sharing != defaults.Sharing && type != ModelType.MlMmoe)
            throw Error(path + ".sharing", $"is shared; only types {Names([ModelType.Mmoe, ModelType.MlMmoe])} have a gate that tasks can share");
        (string Key, bool Given)[] mixtureOnly =
        [
            ("top_k", gate.TopK != defaults.TopK),
            ("score", gate.Score != defaults.Score),
            ("renormalize", gate.Renormalize != defaults.Renormalize),
            ("capacity_factor", gate.CapacityFactor != defaults.CapacityFactor),
            ("order", gate.Order != defaults.Order),
            ("balance_loss", gate.BalanceLoss != defaults.BalanceLoss),
            ("z_loss", gate.ZLoss != defaults.ZLoss),
        ];
        foreach ((string key, bool given) in mixtureOnly)
        {
            if (given)
                throw Error($"{path}.{key}", $"has no effect here; only types mmoe and grec have it, the gates of type {Name(type)} are dense softmax gates; remove it");
        }
    }

    private static void CheckMixtureGate(GateDescription gate, int experts, string path)
    {
        if (gate.Input is not null)
            throw Error(path + ".input", $"has no effect here; only types {Names([ModelType.Ple, ModelType.Adatt])} have it; remove it");
        if (gate.TopK > experts)
            throw Error(path + ".top_k", $"is {gate.TopK}; it must be at most the number of experts, {experts}");
        bool dense = gate.TopK is null;
        bool softmax = gate.Score != ScoreMode.Sigmoid;
        if (dense)
        {
            if (gate.Score is ScoreMode.TopkSoftmax or ScoreMode.Noisy)
                throw Error(path + ".score", $"needs top_k; a dense gate takes softmax_topk (plain softmax) or sigmoid");
            if (gate.CapacityFactor is not null)
                throw Error(path + ".capacity_factor", $"needs top_k; a dense gate sends every row to every expert");
            if (gate.BalanceLoss != 0)
                throw Error(path + ".balance_loss", $"needs top_k; a dense gate sends every row to every expert");
        }

        bool sumsToOne = gate.Score is ScoreMode.TopkSoftmax or ScoreMode.Noisy || (dense && softmax);
        if (gate.Renormalize && sumsToOne)
            throw Error(path + ".renormalize", $"has no effect here; these weights sum to 1 as they are; remove it");
        if (gate.Order != RoutingOrder.SampleMajor && gate.CapacityFactor is null)
            throw Error(path + ".order", $"has no effect without capacity_factor; remove it");
    }

    private static string Name(ModelType type) => JsonNamingPolicy.SnakeCaseLower.ConvertName(type.ToString());

    private static string Names(IEnumerable<ModelType> types)
    {
        string[] names = [.. types.Select(Name)];
        return names.Length == 1 ? names[0] : $"{string.Join(", ", names[..^1])} and {names[^1]}";
    }
}
