using static CudaMoE.Description.DescriptionValidator;

namespace CudaMoE.Description;

/// <summary>The rules of stem models.</summary>
internal static class StemRules
{
    /// <summary>Name of the unit that belongs to no task.</summary>
    public const string SharedUnit = "shared";

    public static void Check(ModelDescription description)
    {
        ArchitectureDescription architecture = description.Architecture;
        if (architecture.Type != ModelType.Stem)
            return;
        if (architecture.Projection is not null)
            throw Error("architecture.projection", $"has no effect here; the experts of a stem model read the tables of their task; remove it");
        if (architecture.LayerNorm)
            throw Error("architecture.layer_norm", $"has no effect here; a stem model has a feature row for each task; remove it");
        for (int i = 0; i < description.Tasks.Count; i++)
        {
            if (description.Tasks[i].Name == SharedUnit)
                throw Error($"tasks[{i}].name", $"is \"{SharedUnit}\", which a stem model calls the tables that belong to no task; choose another name");
        }

        if (description.Features.All(feature => feature.Type is FeatureType.Vector || feature is { Type: FeatureType.Dense, Transform: not DenseTransform.Quantile }))
            throw Error("features", $"have no embedded one; a stem model needs at least one, since it differs from cgc by its tables");
    }
}
