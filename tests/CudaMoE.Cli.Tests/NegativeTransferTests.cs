using CudaMoE.Cli.Experiments;
using CudaMoE.Description;
using CudaMoE.Training;

namespace CudaMoE.Cli.Tests;

/// <summary>What an experiment says of tasks that a model makes worse, from results written here.</summary>
public sealed class NegativeTransferTests
{
    private static readonly TaskPair[] Conflicting =
    [
        new() { First = "click", Second = "like", MeanCosine = -0.25, Conflicts = 0.75, Steps = 1000 },
        new() { First = "click", Second = "share", MeanCosine = 0.5, Conflicts = 0, Steps = 1000 },
        new() { First = "like", Second = "share", MeanCosine = 0.25, Conflicts = 0.25, Steps = 1000 },
    ];

    [Fact]
    public void Notes_AWorseTask_NameThePairAndTheBalancersWithoutIt()
    {
        ExperimentSummary summary = Summarise(
            Runs("single", "equal", 0.80, 0.70, 0.60),
            Runs("mmoe", "equal", 0.80, 0.65, 0.60, Conflicting),
            Runs("mmoe", "mgda", 0.80, 0.70, 0.60),
            Runs("mmoe", "pcgrad", 0.80, 0.66, 0.60));
        Assert.Equal(
            [
                "Negative transfer (!): mmoe with equal is worse than single by more than both deviations in like auc. Its gradient goes least with that of click: mean cosine -0.250, below 0 in 75 % of 2,000 steps. Not so with mgda.",
                "Negative transfer (!): mmoe with pcgrad is worse than single by more than both deviations in like auc. Its gradient goes least with that of click with equal: mean cosine -0.250, below 0 in 75 % of 2,000 steps. Not so with mgda.",
            ],
            NegativeTransfer.Notes(summary));
        Assert.Contains("Not so with mgda.", ExperimentReport.Markdown(summary), StringComparison.Ordinal);
        Assert.Contains("mean cosine -0.250", ExperimentReport.Html(summary), StringComparison.Ordinal);
    }

    [Fact]
    public void Notes_NothingSeenAndNothingBetter_SaySo()
    {
        ExperimentSummary summary = Summarise(Runs("single", "equal", 0.80, 0.70, 0.60), Runs("mmoe", "equal", 0.70, 0.70, 0.60), Runs("mmoe", "dwa", 0.71, 0.70, 0.60));
        string[] notes = [.. NegativeTransfer.Notes(summary)];
        Assert.Equal(2, notes.Length);
        Assert.EndsWith("in click auc. Its runs looked at no gradients: training.balancer.observe_every shows with which task it conflicts. So it is with all other balancers (dwa).", notes[0], StringComparison.Ordinal);
    }

    [Fact]
    public void Notes_WithinTheSeedsSpread_AreNone() =>
        Assert.Empty(NegativeTransfer.Notes(Summarise(Runs("single", "equal", 0.80, 0.70, 0.60), Runs("mmoe", "equal", 0.7995, 0.6995, 0.65, Conflicting))));

    /// <summary>Two seeds, 0.001 to either side of the values.</summary>
    private static CellResult[] Runs(string model, string balancer, double click, double like, double share, params TaskPair[] pairs) =>
    [
        .. new[] { 1, 2 }.Select(seed => new CellResult
        {
            Model = model,
            Balancer = balancer,
            Seed = (ulong)seed,
            Status = "completed",
            Test = [.. new[] { ("click", click), ("like", like), ("share", share) }.Select(task => new TaskMetrics
            {
                Task = task.Item1,
                Rows = 10,
                Metrics = [new() { Name = "auc", Value = task.Item2 + (seed == 1 ? 0.001 : -0.001) }],
            })],
            Pairs = pairs,
        }),
    ];

    private static ExperimentSummary Summarise(params CellResult[][] runs)
    {
        ModelDescription description = new()
        {
            Name = "test",
            Features = [new() { Name = "x", Type = FeatureType.Dense }],
            Tasks = [.. new[] { "click", "like", "share" }.Select(name => new TaskDescription { Name = name, Type = TaskType.Binary })],
            Architecture = new() { Type = ModelType.SharedBottom, Bottom = [4] },
            Training = new(),
        };
        ExperimentFile file = new() { Name = "test", Models = [], Baseline = "single" };
        CellResult[] results = [.. runs.SelectMany(row => row)];
        return ExperimentSummary.Of(file, [.. results.Select(result => new ExperimentCell(result.Model, result.Balancer, description, "."))], results);
    }
}
