using CudaMoE.Description;

namespace CudaMoE.Streaming.Xsmoe;

/// <summary>Experts of one layer of one side ladder.</summary>
/// <param name="Count">Experts, at least 1.</param>
/// <param name="Frozen">The first so many take no gradients.</param>
internal readonly record struct SideExperts(int Count, int Frozen);

/// <summary>The side ladder of one modality.</summary>
internal sealed record SideShape
{
    /// <summary>Prefix of the parameters' names, e.g. "text".</summary>
    public required string Name { get; init; }

    /// <summary>Width of the encoder's states.</summary>
    public required int Width { get; init; }

    /// <summary>Experts of each layer, the lowest first.</summary>
    public required IReadOnlyList<SideExperts> Layers { get; init; }
}

/// <summary>Everything that fixes the shape of an XSMoE model.</summary>
internal sealed record XsmoeShape
{
    /// <summary>The most experts of a layer: what one combine of the native library takes, less the encoder's own entry.</summary>
    public const int MaxExperts = 63;

    public required IReadOnlyList<SideShape> Sides { get; init; }

    /// <summary>Width of an expert's bottleneck.</summary>
    public required int Adapter { get; init; }

    /// <summary>Width of item and user vectors.</summary>
    public required int Hidden { get; init; }

    public required int Heads { get; init; }

    public required int Blocks { get; init; }

    /// <summary>Whether the products of the attention have biases.</summary>
    public bool AttentionBias { get; init; } = true;

    public required int FeedForward { get; init; }

    /// <summary>Inputs of a sequence, L.</summary>
    public required int History { get; init; }

    /// <summary>Share of the user encoder's numbers that training drops.</summary>
    public required float Dropout { get; init; }

    /// <summary>Sequences of the largest batch.</summary>
    public required int MaxSequences { get; init; }

    /// <summary>Rows of the table of all items that a ranking reads, padding counted.</summary>
    public required int TableItems { get; init; }

    public Precision Precision { get; init; } = Precision.F32;

    public OptimizerDescription Optimizer { get; init; } = new();

    /// <summary>Seed of dropout.</summary>
    public ulong Seed { get; init; }

    /// <summary>The shape of a description's model.</summary>
    /// <param name="description">The description.</param>
    /// <param name="sides">The ladders.</param>
    /// <param name="sequences">Sequences of the largest batch.</param>
    /// <param name="items">All items, padding counted.</param>
    public static XsmoeShape Of(StreamDescription description, IReadOnlyList<SideShape> sides, int sequences, int items)
    {
        XsmoeDescription model = description.Model;
        return new()
        {
            Sides = sides,
            Adapter = model.Adapter,
            Hidden = model.Hidden,
            Heads = model.Heads,
            Blocks = model.Blocks,
            AttentionBias = model.AttentionBias,
            FeedForward = model.FeedForward,
            History = model.History,
            Dropout = model.Dropout,
            MaxSequences = sequences,
            TableItems = items,
            Precision = model.Precision,
            Optimizer = new() { WeightDecay = description.Training.WeightDecay },
            Seed = description.Training.Seed,
        };
    }

    /// <summary>Items of the largest batch: all of all sequences.</summary>
    public int MaxItems => checked(MaxSequences * (History + 1));
}
