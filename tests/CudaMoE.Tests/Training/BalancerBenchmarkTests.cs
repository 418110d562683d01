using CudaMoE.Benchmarking;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Training;

/// <summary>The comparison of what balancers cost, on a tiny configuration.</summary>
public sealed class BalancerBenchmarkTests
{
    private static readonly BenchmarkConfig Config = new()
    {
        Name = "tiny",
        Model = "mmoe",
        Batch = 16,
        Tasks = 3,
        Dense = 2,
        Sparse = new() { Features = 2, Rows = 20, Dim = 4 },
        InputDim = 8,
        Tower = [4],
        Experts = new() { Count = 2, Levels = [[6]] },
        Optimizer = new() { Dense = new() { Type = "adamw", Lr = 0.001f }, Sparse = new() { Type = "rowwise_adagrad", Lr = 0.05f } },
    };

    [Fact]
    public void Run_SeveralTasks_HasEveryBalancerForEach()
    {
        IReadOnlyList<BalancerCost> costs = BalancerBenchmark.Run(Config, new() { Device = TestDevices.Default, Tasks = [2, 3], Rounds = 3, Steps = 1 });
        Assert.Equal([.. BalancerBenchmark.Names, .. BalancerBenchmark.Names], costs.Select(cost => cost.Name));
        Assert.Equal([2, 3], costs.Select(cost => cost.Tasks).Distinct());
        Assert.All(costs, cost =>
        {
            Assert.True(cost.SamplesPerSecond > 0);
            Assert.True(cost.Least > 0 && cost.Least <= cost.Ratio && cost.Ratio <= cost.Most);
        });
        Assert.All(costs.Where(cost => cost.Name == "equal"), cost => Assert.Equal((1, 1, 1), (cost.Ratio, cost.Least, cost.Most)));
    }

    [Fact]
    public void Markdown_TwoNumbersOfTasks_IsATableOfRatios()
    {
        string table = BalancerCostReport.Markdown([new("equal", 2, 12345.6, 1, 1, 1), new("mgda", 2, 6000, 0.5, 0.456, 0.6), new("equal", 4, 999, 1, 1, 1), new("mgda", 4, 1, 0.25, 0.2, 0.3)]);
        Assert.Equal("| tasks | equal, samples/s | mgda |\n| ---: | ---: | ---: |\n| 2 | 12,346 | 0.50 (0.46 to 0.60) |\n| 4 | 999 | 0.25 (0.20 to 0.30) |\n", table);
    }

    [Fact]
    public void Html_Plot_HoldsItsDataAndLoadsNothing()
    {
        string page = BalancerCostReport.Html([new("equal", 2, 10, 1, 1, 1), new("mgda", 2, 5, 0.5, 0.5, 0.5)], "a < b");
        Assert.Contains("""{"tasks":[2],"lines":[{"name":"equal","ratios":[1]},{"name":"mgda","ratios":[0.5]}]}""", page, StringComparison.Ordinal);
        Assert.Contains("a &lt; b", page, StringComparison.Ordinal);
        Assert.DoesNotContain(" src=", page, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_WrongOptions_AreRefused()
    {
        Assert.Contains("2 to 64", Assert.Throws<ArgumentException>(() => BalancerBenchmark.Run(Config, new() { Tasks = [1] })).Message, StringComparison.Ordinal);
        Assert.Contains("embedding", Assert.Throws<ArgumentException>(() => BalancerBenchmark.Run(Config with { Model = "embedding" }, new())).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => BalancerBenchmark.Run(Config, new() { Rounds = 1 }));
    }
}
