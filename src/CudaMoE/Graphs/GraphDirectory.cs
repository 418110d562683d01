using System.Text.Json.Serialization;

namespace CudaMoE.Graphs;

/// <summary>What a macro graph was built with and what it holds; part of its file.</summary>
public sealed record MacroGraphInfo
{
    /// <summary>The tasks.</summary>
    public required IReadOnlyList<string> Tasks { get; init; }

    /// <summary>For each task its value, 0 = the least.</summary>
    public required IReadOnlyList<int> Values { get; init; }

    /// <summary>For each task the pairs of a user and an item that met in it.</summary>
    public required IReadOnlyList<long> TaskPairs { get; init; }

    /// <summary>Exponent of the merging score.</summary>
    public required double Beta { get; init; }

    /// <summary>Temperature of the macro weights.</summary>
    public required double Tau { get; init; }

    /// <summary>Seed of projection and clustering.</summary>
    public required ulong Seed { get; init; }

    /// <summary>Users with an interaction.</summary>
    public required int Users { get; init; }

    /// <summary>Items with an interaction.</summary>
    public required int Items { get; init; }

    /// <summary>Pairs of a user and an item with an interaction.</summary>
    public required long Pairs { get; init; }

    /// <summary>Macro nodes of users, without the cold one.</summary>
    public required int UserNodes { get; init; }

    /// <summary>Macro nodes of items, without the cold one.</summary>
    public required int ItemNodes { get; init; }

    /// <summary>Macro nodes of users that have members.</summary>
    public required int UsedUserNodes { get; init; }

    /// <summary>Macro nodes of items that have members.</summary>
    public required int UsedItemNodes { get; init; }

    /// <summary>Weighted sum of squared distances of users to their centres when they were clustered.</summary>
    public required double UserObjective { get; init; }

    /// <summary>That of items.</summary>
    public required double ItemObjective { get; init; }

    /// <summary>Interactions read, repeated ones too.</summary>
    public required long Interactions { get; init; }

    /// <summary>Rows passed over because their event is no task.</summary>
    public required long Ignored { get; init; }

    /// <summary>Rows passed over because of their time.</summary>
    public required long Later { get; init; }

    /// <summary>Rows count whose time is below this; null = the log had no times, or all count.</summary>
    public required double? Before { get; init; }

    /// <summary>Updates since it was built.</summary>
    public required int Updates { get; init; }
}

/// <summary>A part of a graph file.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Offset">Its first byte.</param>
/// <param name="Length">Its bytes.</param>
/// <param name="Checksums">XXH64 of each block of <see cref="GraphFileWriter.BlockBytes"/>, the last one shorter.</param>
internal sealed record GraphSection(string Name, long Offset, long Length, IReadOnlyList<ulong> Checksums);

/// <summary>What stands at the end of a graph file.</summary>
internal sealed record GraphDirectory
{
    public const int CurrentVersion = 1;

    public required int Version { get; init; }

    public required MacroGraphInfo Info { get; init; }

    public required IReadOnlyList<GraphSection> Sections { get; init; }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, RespectNullableAnnotations = true)]
[JsonSerializable(typeof(GraphDirectory))]
internal sealed partial class GraphJson : JsonSerializerContext;
