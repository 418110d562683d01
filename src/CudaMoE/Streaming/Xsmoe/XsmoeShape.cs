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

    /// <summary>Items of the largest batch: all of all sequences.</summary>
    public int MaxItems => checked(MaxSequences * (History + 1));
}
