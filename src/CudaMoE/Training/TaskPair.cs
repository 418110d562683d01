namespace CudaMoE.Training;

/// <summary>How the gradients of two tasks lay to each other over a number of steps.</summary>
public sealed record TaskPair
{
    /// <summary>The one task.</summary>
    public required string First { get; init; }

    /// <summary>The other task.</summary>
    public required string Second { get; init; }

    /// <summary>Mean of the cosines between their gradients.</summary>
    public required double MeanCosine { get; init; }

    /// <summary>Share of the steps in which it was below 0: the tasks conflicted.</summary>
    public required double Conflicts { get; init; }

    /// <summary>Steps in which gradients were looked at and both tasks had one.</summary>
    public required long Steps { get; init; }

    /// <summary>All steps of several stretches together, e.g. of the epochs of a run or of the runs of several seeds; pairs in the order in which they come first.</summary>
    public static IReadOnlyList<TaskPair> Together(IEnumerable<TaskPair> pairs) =>
    [
        .. pairs.GroupBy(pair => (pair.First, pair.Second)).Select(group =>
        {
            long steps = group.Sum(pair => pair.Steps);
            return new TaskPair
            {
                First = group.Key.First,
                Second = group.Key.Second,
                MeanCosine = group.Sum(pair => pair.MeanCosine * pair.Steps) / steps,
                Conflicts = group.Sum(pair => pair.Conflicts * pair.Steps) / steps,
                Steps = steps,
            };
        }),
    ];
}
