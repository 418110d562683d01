namespace CudaMoE.CudaReport.Tests;

public sealed class CostTests
{
    private const string Counted = "op\t1000\t2\t1300\t2000\t0\t1000\t0\nop\t2000\t2\t2300\t4000\t0\t2000\t0\n";

    [Fact]
    public void At_TwoBatches_CarriesTheLineOn()
    {
        Costs.Cost cost = Assert.Single(Costs.At(10000, Costs.Parse(Counted)));
        Assert.Equal((10300, 20000, 10000), (cost.MemoryBytes, cost.CacheBytes, cost.FloorBytes));
        Assert.Equal(1.03, cost.Ratio, 12);
    }

    [Fact]
    public void At_OneBatch_IsRefused() => Assert.Throws<InvalidDataException>(() => Costs.At(10, Costs.Parse("op\t1\t1\t1\t1\t0\t1\t0\n")));

    [Fact]
    public void Compare_WhatWasWritten_Passes()
    {
        List<Costs.Cost> costs = Costs.At(10000, Costs.Parse(Counted));
        Assert.Empty(Costs.Compare(costs, Costs.ParseExpected(Costs.WriteExpected(costs, []))));
    }

    [Fact]
    public void Compare_MoreLaunchesOrBytesUnlistedOrGone_Fail()
    {
        List<Costs.Cost> costs = Costs.At(10000, Costs.Parse(Counted));
        Assert.Contains("expected 1 and", Assert.Single(Costs.Compare(costs, new() { ["op"] = (1, 1030, "") })), StringComparison.Ordinal);
        Assert.Contains("expected 2 and 1.029", Assert.Single(Costs.Compare(costs, new() { ["op"] = (2, 1029, "") })), StringComparison.Ordinal);
        Assert.Contains("not listed", Assert.Single(Costs.Compare(costs, [])), StringComparison.Ordinal);
        Assert.Contains("was not counted", Assert.Single(Costs.Compare([], new() { ["op"] = (2, 1030, "") })), StringComparison.Ordinal);
    }

    [Fact]
    public void Compare_AboveTheAim_NeedsAReason()
    {
        List<Costs.Cost> costs = Costs.At(10000, Costs.Parse("op\t1\t1\t3\t3\t0\t1\t0\nop\t2\t1\t6\t6\t0\t2\t0\n"));
        Assert.Contains("must say why", Assert.Single(Costs.Compare(costs, new() { ["op"] = (1, 3000, "") })), StringComparison.Ordinal);
        Assert.Empty(Costs.Compare(costs, new() { ["op"] = (1, 3000, "it reads twice") }));
    }
}
