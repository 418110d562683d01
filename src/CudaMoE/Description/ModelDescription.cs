namespace CudaMoE.Description;

/// <summary>
/// Everything that makes a model and a training run: data, features, tasks, architecture and training. It is what a model file
/// (<c>model.json</c>) holds, with snake_case keys, and what a program builds with records or with <see cref="ModelDescriptionBuilder"/>.
/// </summary>
public sealed record ModelDescription
{
    /// <summary>A short name, used in run folders and reports: letters, digits, <c>-</c>, <c>_</c> and <c>.</c>.</summary>
    public required string Name { get; init; }

    /// <summary>Where rows come from and how they are split; null for a model that is fed by the program.</summary>
    public DataDescription? Data { get; init; }

    /// <summary>The inputs, in the order of the columns of the model's input row. At least one.</summary>
    public required IReadOnlyList<FeatureDescription> Features { get; init; }

    /// <summary>The outputs. At least one, at most 64.</summary>
    public required IReadOnlyList<TaskDescription> Tasks { get; init; }

    /// <summary>The network between features and tasks.</summary>
    public required ArchitectureDescription Architecture { get; init; }

    /// <summary>How it is trained.</summary>
    public TrainingDescription Training { get; init; } = new();
}
