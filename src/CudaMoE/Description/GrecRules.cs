using static CudaMoE.Description.DescriptionValidator;

namespace CudaMoE.Description;

/// <summary>The rules of grec models.</summary>
internal static class GrecRules
{
    private const string Path = "architecture.grec";
    private const int MaxHeadWidth = 256;

    public static void Check(ModelDescription description)
    {
        ArchitectureDescription architecture = description.Architecture;
        if (architecture.Type != ModelType.Grec)
        {
            if (architecture.Grec is not null)
                throw Error(Path, $"has no effect here; only type grec has it; remove it or change the type");
            return;
        }

        if (architecture.Grec is not { } grec)
            throw Error(Path, $"is missing; type grec needs it; {{}} takes its defaults");
        if (architecture.Projection is not null)
            throw Error("architecture.projection", $"has no effect here; a grec model has a head for each kind of feature instead; remove it");
        if (architecture.LayerNorm)
            throw Error("architecture.layer_norm", $"has no effect here; a grec model normalises its tokens; remove it");
        if (architecture.Gate.TopK is null)
            throw Error("architecture.gate.top_k", $"is missing; the mixture of a grec model is sparse; 1 is the released model's");
        if (architecture.Gate.Sharing != GateSharing.PerTask)
            throw Error("architecture.gate.sharing", $"has no effect here; a grec model has one router, and architecture.grec.routing says what it reads; remove it");
        CheckShape(grec);
        CheckFeatures(description, grec);
    }

    private static void CheckShape(GrecDescription grec)
    {
        if (grec.HeadWidth is null && grec.Width % grec.Heads != 0)
            throw Error(Path + ".heads", $"is {grec.Heads}, which does not divide width {grec.Width}; choose another number or give head_width");
        int headWidth = grec.HeadWidth ?? grec.Width / grec.Heads;
        if (headWidth > MaxHeadWidth)
            throw Error(Path + ".heads", $"is {grec.Heads}, which makes heads of width {headWidth}; a head has at most {MaxHeadWidth} columns; choose more heads or give head_width");
    }

    private static void CheckFeatures(ModelDescription description, GrecDescription grec)
    {
        Dictionary<string, FeatureDescription> features = description.Features.ToDictionary(feature => feature.Name, StringComparer.Ordinal);
        HashSet<string> named = new(StringComparer.Ordinal);
        CheckList("current", grec.Current, feature => feature.Type is FeatureType.Categorical or FeatureType.MultiHot, "a categorical or multi_hot feature");
        CheckList("text", grec.Text, feature => feature.Type == FeatureType.MultiHot, "a multi_hot feature");
        FeatureDescription[] sequences = [.. description.Features.Where(feature => feature.Type == FeatureType.Sequence)];
        foreach (FeatureDescription sequence in sequences.Skip(1))
        {
            int index = description.Features.ToList().IndexOf(sequence);
            if (sequence.MaxLength != sequences[0].MaxLength)
                throw Error($"features[{index}].max_length", $"is {sequence.MaxLength}, but sequence \"{sequences[0].Name}\" has {sequences[0].MaxLength}; the sequences of a grec model are read side by side and need the same");
            if (sequence.Dimension != sequences[0].Dimension)
                throw Error($"features[{index}].dimension", $"is {sequence.Dimension}, but sequence \"{sequences[0].Name}\" has {sequences[0].Dimension}; the sequences of a grec model are multiplied and need the same");
        }

        if (sequences.Length == 0 && grec.Blocks != new GrecDescription().Blocks)
            throw Error(Path + ".blocks", $"has no effect here; no feature is a sequence; remove it");

        void CheckList(string key, IReadOnlyList<string> names, Func<FeatureDescription, bool> fits, string owner)
        {
            for (int i = 0; i < names.Count; i++)
            {
                string path = FormattableString.Invariant($"{Path}.{key}[{i}]");
                if (!features.TryGetValue(names[i], out FeatureDescription? feature))
                    throw Error(path, $"is \"{LocatedValue.Cut(names[i])}\", which is no feature{NearestName.Suggestion(names[i], features.Keys)}");
                if (!fits(feature))
                    throw Error(path, $"is \"{names[i]}\"; it must be {owner}");
                if (!named.Add(names[i]))
                    throw Error(path, $"is \"{names[i]}\", which is named already; a feature belongs to one token");
            }
        }
    }
}
