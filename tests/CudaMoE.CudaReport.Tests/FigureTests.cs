namespace CudaMoE.CudaReport.Tests;

public sealed class FigureTests
{
    private static readonly KernelFigures Good = new()
    {
        Kernel = "pack_kernel<float>(GemmPack)",
        Source = "gemm/pack.cu",
        Architecture = "sm_80",
        Registers = 40,
        StaticSharedBytes = 4224,
        Threads = 256,
        ResidentWarps = 48,
        Code = new Instructions { WideLoads = 4, NarrowLoads = 2 },
    };

    [Theory]
    [InlineData("sm_80", 32, 0, 256, 64)]
    [InlineData("sm_80", 40, 0, 256, 48)]
    [InlineData("sm_80", 128, 0, 256, 16)]
    [InlineData("sm_80", 255, 0, 256, 8)]
    [InlineData("sm_80", 32, 81 << 10, 256, 16)]
    [InlineData("sm_80", 32, 0, 32, 32)]
    [InlineData("sm_86", 32, 0, 32, 16)]
    [InlineData("sm_86", 32, 0, 256, 48)]
    [InlineData("sm_86", 32, 100 << 10, 256, 0)]
    [InlineData("sm_90a", 32, 200 << 10, 1024, 32)]
    public void ResidentWarps_ByTheRulesOfTheArchitecture(string architecture, int registers, int shared, int threads, int expected)
    {
        Assert.Equal(expected, Occupancy.ResidentWarps(architecture, registers, shared, threads));
    }

    [Fact]
    public void ResourceReader_Text_GivesUsages()
    {
        const string text = """
            arch = sm_86
            identifier = /x/kernels/gemm/pack.cu

            Resource usage:
             Common:
              GLOBAL:0
             Function _Zpack:
              REG:38 STACK:8 SHARED:4224 LOCAL:16 CONSTANT[0]:536 TEXTURE:0 SURFACE:0 SAMPLER:0
            """;
        Assert.Equal(
            [new ResourceReader.Usage("sm_86", "/x/kernels/gemm/pack.cu", "_Zpack", 38, 8, 4224, 16)], ResourceReader.Read(new StringReader(text)));
    }

    [Fact]
    public void Combine_SeveralLaunches_TakesTheOneThatLeavesTheFewestWarps()
    {
        var launches = new LaunchLog();
        launches.Add("k", new LaunchLog.Launch("op", 80, "256,1,1", 0, 1, "1,1,1", "", ""));
        launches.Add("k", new LaunchLog.Launch("op", 80, "128,2,1", 90 << 10, 1, "1,1,1", "", ""));
        KernelFigures figures = Assert.Single(FigureCollector.Combine(
            [new("sm_80", "/x/kernels/gemm/a.cu", "_Zk", 32, 0, 0, 0)], new Dictionary<string, string> { ["_Zk"] = "k" }, (_, _) => new(), launches));
        Assert.Equal((256, 90 << 10, 8, "gemm/a.cu"), (figures.Threads, figures.DynamicSharedBytes, figures.ResidentWarps, figures.Source));
    }

    [Theory]
    [InlineData("sm_80", 120 << 10)]
    [InlineData("sm_86", 80 << 10)]
    [InlineData("sm_89", 80 << 10)]
    [InlineData("sm_90a", 120 << 10)]
    public void Combine_LaunchesOfSeveralArchitectures_CountsTheOnesOfItsOwn(string architecture, int shared)
    {
        var launches = new LaunchLog();
        launches.Add("k", new LaunchLog.Launch("op", 80, "256,1,1", 120 << 10, 1, "1,1,1", "", ""));
        launches.Add("k", new LaunchLog.Launch("op", 86, "256,1,1", 80 << 10, 1, "1,1,1", "", ""));
        KernelFigures figures = Assert.Single(FigureCollector.Combine(
            [new(architecture, "/x/kernels/gemm/a.cu", "_Zk", 32, 0, 0, 0)], new Dictionary<string, string> { ["_Zk"] = "k" }, (_, _) => new(), launches));
        Assert.Equal(shared, figures.DynamicSharedBytes);
        Assert.True(figures.ResidentWarps > 0);
    }

    [Theory]
    [InlineData("sm_80", 90, 0, false)] // sm_90a's own: an empty body elsewhere
    [InlineData("sm_90a", 90, 4, true)]
    [InlineData("sm_80", 90, 4, true)] // not empty
    [InlineData("sm_80", 80, 0, true)] // launched there
    public void Combine_KernelWithoutBodyThatIsLaunchedOnSm90Alone_IsLeftOut(string architecture, int launchedOn, int loads, bool expected)
    {
        var launches = new LaunchLog();
        launches.Add("k", new LaunchLog.Launch("op", launchedOn, "256,1,1", 200 << 10, 1, "1,1,1", "", ""));
        Assert.Equal(expected, FigureCollector.Combine(
            [new(architecture, "/x/kernels/gemm/a.cu", "_Zk", 4, 0, 0, 0)],
            new Dictionary<string, string> { ["_Zk"] = "k" },
            (_, _) => new Instructions { NarrowLoads = loads },
            launches).Count == 1);
    }

    [Fact]
    public void Broken_GoodKernel_IsNot() => Assert.Empty(Gates.Broken(Good));

    [Fact]
    public void Broken_EachDefect_IsNamed()
    {
        Assert.Contains("stack of 8", Assert.Single(Gates.Broken(Good with { StackBytes = 8 })), StringComparison.Ordinal);
        Assert.Contains("local memory", Assert.Single(Gates.Broken(Good with { Code = new() { LocalAccesses = 2 } })), StringComparison.Ordinal);
        Assert.Contains("atomics", Assert.Single(Gates.Broken(Good with { Code = new() { FloatAtomics = 1 } })), StringComparison.Ordinal);
        Assert.Contains("outside of every loop", Assert.Single(Gates.Broken(Good with { Code = new() { TensorCore = 4 } })), StringComparison.Ordinal);
        Assert.Contains("launched by no test", Assert.Single(Gates.Broken(Good with { Threads = 0, ResidentWarps = 0 })), StringComparison.Ordinal);
        Assert.Contains("does not fit", Assert.Single(Gates.Broken(Good with { ResidentWarps = 0 })), StringComparison.Ordinal);
    }

    [Fact]
    public void Compare_SameFigures_Pass()
    {
        Expectations expected = Expectations.Parse(Expectations.Write([Good], "12.4"));
        Assert.Equal("12.4", expected.Toolkit);
        (List<string> failures, int better) = expected.Compare([Good]);
        Assert.Empty(failures);
        Assert.Equal(0, better);
    }

    [Fact]
    public void Compare_WorseBetterUnlistedAndGone_AreToldApart()
    {
        Expectations expected = Expectations.Parse(Expectations.Write([Good, Good with { Architecture = "sm_86" }], "12.4"));
        (List<string> failures, int better) = expected.Compare(
            [Good with { Registers = 41, Code = Good.Code with { WideLoads = 3, NarrowLoads = 1 } }, Good with { Kernel = "new_kernel()" }]);
        Assert.Equal(1, better);
        Assert.Equal(4, failures.Count);
        Assert.Contains(failures, f => f.EndsWith("registers 41, expected 40", StringComparison.Ordinal));
        Assert.Contains(failures, f => f.EndsWith("16-byte loads 3, expected 4", StringComparison.Ordinal));
        Assert.Contains(failures, f => f.Contains("new_kernel() for sm_80 is not listed", StringComparison.Ordinal));
        Assert.Contains(failures, f => f.Contains("for sm_86 is listed", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("void cudamoe::kernels::(anonymous namespace)::pack_kernel<float>(cudamoe::kernels::GemmPack)", "pack_kernel<float>(GemmPack)")]
    [InlineData("cudamoe::kernels::(anonymous namespace)::scan_kernel(unsigned int*, long) [clone .isra.0]", "scan_kernel(unsigned int*, long)")]
    [InlineData("void cudamoe::kernels::gate<(int)128, 4ul, (bool)1>()", "gate<128, 4, 1>()")]
    public void Normalise_NamesOfBothCompilers_AreOne(string demangled, string name) => Assert.Equal(name, KernelNames.Normalise(demangled));

    [Fact]
    public void WithoutParameters_TemplatesStay() => Assert.Equal("k<A<1>, (F)2>", KernelNames.WithoutParameters("k<A<1>, (F)2>(int, B<3>)"));
}
