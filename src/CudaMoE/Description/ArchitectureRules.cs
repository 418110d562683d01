using static CudaMoE.Description.DescriptionValidator;

namespace CudaMoE.Description;

/// <summary>The rules of the architecture.</summary>
internal static class ArchitectureRules
{
    public static void Check(ArchitectureDescription architecture)
    {
        const string path = "architecture";
        ArchitectureDescription defaults = new() { Type = architecture.Type };
        if (architecture.ActivationSlope != defaults.ActivationSlope && architecture.Activation != ActivationKind.LeakyRelu)
            throw Error(path + ".activation_slope", $"has no effect here; only activation leaky_relu has it; remove it");
        if (architecture.Type != ModelType.Mmoe)
        {
            if (architecture.Experts is not null)
                throw Error(path + ".experts", $"has no effect here; only type mmoe has experts; remove it or change the type");
            if (architecture.Gate != defaults.Gate)
                throw Error(path + ".gate", $"has no effect here; only type mmoe has gates; remove it or change the type");
            return;
        }

        if (architecture.Experts is not { } experts)
            throw Error(path + ".experts", $"is missing; type mmoe needs it");
        if (experts.Layers.Count == 0)
            throw Error(path + ".experts.layers", $"is empty; an expert needs at least one layer");
        if (architecture.Bottom.Count > 0)
            throw Error(path + ".bottom", $"has no effect here; an mmoe model has experts instead, and a \"projection\" below them; remove it");
        CheckGate(architecture.Gate, experts, path + ".gate");
    }

    private static void CheckGate(GateDescription gate, ExpertsDescription experts, string path)
    {
        if (gate.TopK > experts.Count)
            throw Error(path + ".top_k", $"is {gate.TopK}; it must be at most the number of experts, {experts.Count}");
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
}
