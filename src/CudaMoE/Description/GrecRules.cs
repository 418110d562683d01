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
        CheckOverflow(architecture, grec);
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

    private static void CheckOverflow(ArchitectureDescription architecture, GrecDescription grec)
    {
        if (grec.Overflow == CapacityOverflow.Drop)
            return;
        if (grec.TokenCapacity is null)
            throw Error(Path + ".overflow", $"has no effect here; no token_capacity limits the experts; remove it");
        if (architecture.Gate.TopK != 1)
            throw Error(Path + ".overflow", $"is pass, which needs gate.top_k 1, not {architecture.Gate.TopK}; use drop");
        if (architecture.Gate.CapacityFactor is not null)
            throw Error(Path + ".overflow", $"is pass, which knows token_capacity alone; remove gate.capacity_factor or use drop");
    }

    private static void CheckFeatures(ModelDescription description, GrecDescription grec)
    {
        Dictionary<string, FeatureDescription> features = description.Features.ToDictionary(feature => feature.Name, StringComparer.Ordinal);
        HashSet<string> named = new(StringComparer.Ordinal);
        CheckList("current", grec.Current, feature => feature.Type is FeatureType.Categorical or FeatureType.MultiHot, "a categorical or multi_hot feature");
        CheckList("text", grec.Text, feature => feature.Type is FeatureType.MultiHot or FeatureType.Vector, "a multi_hot or vector feature");
        if (!grec.CurrentLayer)
            CheckCurrentWidth();
        FeatureDescription[] sequences = [.. description.Features.Where(feature => feature.Type == FeatureType.Sequence)];
        foreach (FeatureDescription sequence in sequences.Skip(1))
        {
            int index = description.Features.ToList().IndexOf(sequence);
            if (sequence.MaxLength != sequences[0].MaxLength)
                throw Error($"features[{index}].max_length", $"is {sequence.MaxLength}, but sequence \"{sequences[0].Name}\" has {sequences[0].MaxLength}; the sequences of a grec model are read side by side and need the same");
            if (grec.Sequence.Count == 0 && sequence.Dimension != sequences[0].Dimension)
                throw Error($"features[{index}].dimension", $"is {sequence.Dimension}, but sequence \"{sequences[0].Name}\" has {sequences[0].Dimension}; the sequences of a grec model are multiplied and need the same");
        }

        CheckSequence(grec, features, sequences);
        if (sequences.Length == 0 && (grec.Padding != SequencePadding.Masked || grec.Pooling == SequencePooling.MeanHardMax))
            throw Error(Path + (grec.Padding != SequencePadding.Masked ? ".padding" : ".pooling"), $"has no effect here; no feature is a sequence; remove it");
        if (sequences.Length == 0 && grec.Blocks != new GrecDescription().Blocks)
            throw Error(Path + ".blocks", $"has no effect here; no feature is a sequence; remove it");

        void CheckCurrentWidth()
        {
            if (grec.Current.Count == 0)
                throw Error(Path + ".current_layer", $"has no effect here; current names no feature; remove it");
            int width = grec.Current.Sum(name => features[name].Dimension ?? 0);
            if (width != grec.Width)
                throw Error(Path + ".current_layer", $"is false, but the features of current are {width} columns wide and a token {grec.Width}; without a layer they must be as wide as a token");
        }

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

    private static void CheckSequence(GrecDescription grec, Dictionary<string, FeatureDescription> features, FeatureDescription[] sequences)
    {
        if (grec.Sequence.Count == 0)
            return;
        HashSet<string> named = new(StringComparer.Ordinal);
        int first = 0;
        for (int i = 0; i < grec.Sequence.Count; i++)
        {
            string path = FormattableString.Invariant($"{Path}.sequence[{i}]");
            int width = 0;
            foreach (string name in grec.Sequence[i])
            {
                if (!features.TryGetValue(name, out FeatureDescription? feature) || feature.Type != FeatureType.Sequence)
                    throw Error(path, $"has \"{LocatedValue.Cut(name)}\", which is no sequence feature{NearestName.Suggestion(name, sequences.Select(sequence => sequence.Name))}");
                if (!named.Add(name))
                    throw Error(path, $"has \"{name}\", which is named already; a feature belongs to one factor");
                width += feature.Dimension!.Value;
            }

            if (width == 0)
                throw Error(path, $"is empty; a factor has at least one sequence feature");
            if (i == 0)
                first = width;
            else if (width != first)
                throw Error(path, $"is {width} columns wide, but the first factor {first}; factors are multiplied and need the same width");
        }

        if (sequences.FirstOrDefault(sequence => !named.Contains(sequence.Name)) is { } left)
            throw Error(Path + ".sequence", $"leaves out sequence feature \"{left.Name}\"; it must name all of them");
    }
}
