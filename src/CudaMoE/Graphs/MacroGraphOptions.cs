using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Graphs;

/// <summary>How a file of interactions is written.</summary>
public enum InteractionKind
{
    /// <summary>A delimited file with an event column: a row is an interaction of the task whose name the event is; other events are passed over.</summary>
    Events,

    /// <summary>A delimited file with a column of numbers for each task: above 0 is an interaction.</summary>
    Labels,

    /// <summary>A delimited file all rows of which are interactions of one task.</summary>
    Task,

    /// <summary>Lines "user item item ...", separated by blanks or tabs, of one task.</summary>
    Lists,
}

/// <summary>A file of interactions.</summary>
/// <param name="Path">The file; plain or gzip.</param>
/// <param name="Kind">How it is written.</param>
/// <param name="Task">The task of all its interactions, for <see cref="InteractionKind.Task"/> and <see cref="InteractionKind.Lists"/>.</param>
public sealed record InteractionSource(string Path, InteractionKind Kind, string? Task = null);

/// <summary>Where interactions come from and which of them count.</summary>
public sealed record InteractionLog
{
    /// <summary>The files, read in order.</summary>
    public required IReadOnlyList<InteractionSource> Sources { get; init; }

    /// <summary>How delimited files are written.</summary>
    public FileFormat Format { get; init; } = new();

    /// <summary>Column of the user's id.</summary>
    public string UserColumn { get; init; } = "user";

    /// <summary>Column of the item's id.</summary>
    public string ItemColumn { get; init; } = "item";

    /// <summary>Column of the event, for <see cref="InteractionKind.Events"/>.</summary>
    public string EventColumn { get; init; } = "event";

    /// <summary>Column of a number that grows with time; null = the log has no times.</summary>
    public string? TimeColumn { get; init; }

    /// <summary>With <see cref="TimeColumn"/>: the part of the rows, by time, that counts. Rows at the time where it ends are left out.</summary>
    public double TimeFraction { get; init; } = 0.8;
}

/// <summary>What a macro graph is built of.</summary>
public sealed record MacroGraphOptions
{
    /// <summary>The interactions.</summary>
    public required InteractionLog Log { get; init; }

    /// <summary>The tasks, at most <see cref="PairScores.MaxTasks"/>.</summary>
    public required IReadOnlyList<string> Tasks { get; init; }

    /// <summary>Whether the tasks are given from the least to the most valuable; else the rarer task is the more valuable one.</summary>
    public bool TasksInOrder { get; init; }

    /// <summary>Exponent of the merging score, -4 to 4; 0 is its limit, the logarithm.</summary>
    public double Beta { get; init; }

    /// <summary>Temperature of the macro weights, 0.01 to 100.</summary>
    public double Tau { get; init; } = 1.3;

    /// <summary>Macro nodes of users without the cold one, 1 to 4096; fewer where there are fewer users.</summary>
    public int UserNodes { get; init; } = 20;

    /// <summary>Macro nodes of items without the cold one, 1 to 4096; fewer where there are fewer items.</summary>
    public int ItemNodes { get; init; } = 20;

    /// <summary>Passes of k-means, 1 to 1000.</summary>
    public int Iterations { get; init; } = 30;

    /// <summary>Seed of projection and clustering.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>Threads; 0 = as many as the machine has. The result does not depend on it.</summary>
    public int Threads { get; init; }

    internal int ThreadCount => Threads == 0 ? Environment.ProcessorCount : Threads;

    /// <summary>Checks all but the files.</summary>
    /// <exception cref="DataException">A value is out of its range.</exception>
    public void Validate()
    {
        if (Tasks.Count is < 1 or > PairScores.MaxTasks)
            throw new DataException($"tasks has {Tasks.Count} names; a macro graph has 1 to {PairScores.MaxTasks} tasks");
        if (Tasks.Distinct(StringComparer.Ordinal).Count() != Tasks.Count || Tasks.Any(string.IsNullOrEmpty))
            throw new DataException("the names of tasks must be unique and not empty");
        Range("beta", Beta, -4, 4);
        Range("tau", Tau, 0.01, 100);
        Range("user_nodes", UserNodes, 1, 4096);
        Range("item_nodes", ItemNodes, 1, 4096);
        Range("iterations", Iterations, 1, 1000);
        Range("threads", Threads, 0, 4096);
        if (!(Log.TimeFraction > 0 && Log.TimeFraction <= 1))
            throw new DataException(FormattableString.Invariant($"the time fraction is {Log.TimeFraction}; it must be above 0 and at most 1"));
        if (Log.Sources.Count == 0)
            throw new DataException("there is no file of interactions");
        foreach (InteractionSource source in Log.Sources)
        {
            if (source.Task is { } task && !Tasks.Contains(task))
                throw new DataException($"the file is of the task \"{task}\"; the tasks are {string.Join(", ", Tasks)}", source.Path);
            if (source.Kind is InteractionKind.Task or InteractionKind.Lists && source.Task is null)
                throw new DataException("the file needs the name of its task", source.Path);
            if (source.Kind == InteractionKind.Lists && Log.TimeColumn is not null)
                throw new DataException("lists of items have no times, so the log cannot be cut by time", source.Path);
        }

        static void Range(string name, double value, double least, double most)
        {
            if (!(value >= least && value <= most))
                throw new DataException(FormattableString.Invariant($"{name} is {value}; it must be {least} to {most}"));
        }
    }
}

/// <summary>A stage of building a macro graph.</summary>
public enum GraphStage
{
    /// <summary>Finding the time that ends the first part of the log.</summary>
    Timing,

    /// <summary>Reading interactions into buckets.</summary>
    Reading,

    /// <summary>Merging the interactions of each pair.</summary>
    Merging,

    /// <summary>Projecting the rows of users and items.</summary>
    Projecting,

    /// <summary>Clustering them.</summary>
    Clustering,

    /// <summary>Counting macro edges.</summary>
    Counting,

    /// <summary>Checking a file.</summary>
    Checking,
}

/// <summary>How far a build is.</summary>
/// <param name="Stage">The stage.</param>
/// <param name="Done">Part of the stage that is done, 0 to 1.</param>
/// <param name="Interactions">Interactions read so far.</param>
public readonly record struct GraphProgress(GraphStage Stage, double Done, long Interactions);
