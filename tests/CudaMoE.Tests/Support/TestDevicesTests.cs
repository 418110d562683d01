namespace CudaMoE.Tests.Support;

/// <summary>Which devices tests run on.</summary>
public sealed class TestDevicesTests
{
    [Theory]
    [InlineData(null, false, false, "cpu:threads=2 simt")]
    [InlineData(null, false, true, "cpu:threads=2 simt cuda")]
    [InlineData(null, true, false, "cpu:threads=2")]
    [InlineData(null, true, true, "cpu:threads=2 cuda")]
    [InlineData("cuda:1", false, true, "cuda:1")]
    [InlineData("simt", true, false, "simt")]
    public void Choose_EveryMachine_NamesItsDevices(string? chosen, bool windows, bool gpu, string expected) =>
        Assert.Equal(expected, string.Join(' ', TestDevices.Choose(chosen, windows, () => gpu)));

    [Fact]
    public void SkipSimt_OnlyOnWindows_GivesAReason()
    {
        Assert.NotEmpty(TestDevices.SkipSimt(windows: true)!);
        Assert.Null(TestDevices.SkipSimt(windows: false));
        Assert.Equal(TestDevices.SimtSkipped, new SimtFactAttribute().Skip);
        Assert.Equal(TestDevices.SimtSkipped, new SimtTheoryAttribute().Skip);
    }
}
