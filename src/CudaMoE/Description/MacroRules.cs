using static CudaMoE.Description.DescriptionValidator;

namespace CudaMoE.Description;

/// <summary>The rules of the macro graph.</summary>
internal static class MacroRules
{
    private const string Path = "architecture.macro";

    // Limits of the attention kernels' heads.
    private const int MostHeadWidth = 256;

    public static void Check(ModelDescription description)
    {
        ArchitectureDescription architecture = description.Architecture;
        bool reads = architecture is { Type: ModelType.Mgoe, Macro.Tables: not MacroTables.None };
        if (description.Data?.Graph is not null && !reads)
            throw Error("data.graph", $"has no effect here; only a mgoe model with tables of macro nodes reads it; remove it");
        if (architecture.Type != ModelType.Mgoe)
        {
            if (architecture.Macro is not null)
                throw Error(Path, $"has no effect here; only type mgoe has it; remove it");
            return;
        }

        if (architecture.Macro is not { } macro)
            throw Error(Path, $"is missing; type mgoe needs it");
        if (architecture.Projection is not null)
            throw Error("architecture.projection", $"has no effect here; experts of type mgoe read the feature row itself; remove it");
        if (architecture.LayerNorm)
            throw Error("architecture.layer_norm", $"has no effect here; experts of type mgoe read the feature row itself; remove it");
        if (macro.Coupling && architecture.Experts?.Layers is [.., > MostHeadWidth and var width])
            throw Error("architecture.experts.layers", $"ends with {width}; with coupling it must be at most {MostHeadWidth}");
        if (!reads)
        {
            if (macro != new MacroDescription { Tables = MacroTables.None, Coupling = macro.Coupling })
                throw Error(Path, $"has keys without effect: with tables none there is only coupling beside it; remove the others");
            return;
        }

        if (description.Data is not null && description.Data.Graph is null)
            throw Error("data.graph", $"is missing; a mgoe model is trained with the macro graph that 'cudamoe graph build' makes");
        CheckFeature(description, macro, "user", macro.User);
        CheckFeature(description, macro, "item", macro.Item);
        if (macro.User == macro.Item)
            throw Error(Path + ".item", $"is \"{macro.Item}\", which is the user already");
    }

    private static void CheckFeature(ModelDescription description, MacroDescription macro, string key, string? name)
    {
        if (name is null)
            throw Error($"{Path}.{key}", $"is missing; it names the feature of the {key}'s id");
        FeatureDescription? feature = description.Features.FirstOrDefault(f => f.Name == name);
        if (feature is null)
            throw Error($"{Path}.{key}", $"is \"{name}\", which is no feature{NearestName.Suggestion(name, [.. description.Features.Select(f => f.Name)])}");
        if (feature.Type != FeatureType.Categorical || feature.Encoding == CategoryEncoding.Hash)
            throw Error($"{Path}.{key}", $"is \"{name}\"; it must be a categorical feature with encoding vocabulary or identity, whose rows stand for one id each");
        if (macro.Attention == MacroAttention.OverNeighbours && 2 * feature.Dimension > MostHeadWidth)
            throw Error($"{Path}.attention", $"is over_neighbours, but feature \"{name}\" has dimension {feature.Dimension}; it must be at most {MostHeadWidth / 2}, or attention degenerate");
    }
}
