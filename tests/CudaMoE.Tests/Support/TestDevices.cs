using CudaMoE.Tensors;

namespace CudaMoE.Tests.Support;

/// <summary>The devices that tests of models, training and the tool run on.</summary>
internal static partial class TestDevices
{
    public const string Cpu = "cpu:threads=2";

    /// <summary>The kernels of the GPU on the host executor. Its memory is closed to the host, so a test that passes reads nothing in place.</summary>
    public const string Simt = "simt";

    public const string Cuda = "cuda";

    /// <summary>The environment variable that puts one device in the place of all, as for the native tests.</summary>
    private static readonly string? Chosen = Environment.GetEnvironmentVariable("CUDAMOE_TEST_DEVICE") is { Length: > 0 } name ? name : null;

    /// <summary>The devices of this machine, a GPU among them where one is usable.</summary>
    public static IReadOnlyList<string> Names { get; } = Choose(Chosen, OperatingSystem.IsWindows(), HasGpu);

    /// <summary>The device of tests that run on one.</summary>
    public static string Default => Names[0];

    /// <summary>Why tests of the executor are left out on this machine; null where they run. Elsewhere than on Windows a missing executor fails them.</summary>
    public static string? SimtSkipped { get; } = SkipSimt(OperatingSystem.IsWindows());

    /// <summary>The devices of a machine, the chosen one alone where there is one.</summary>
    public static IReadOnlyList<string> Choose(string? chosen, bool windows, Func<bool> hasGpu)
    {
        if (chosen is not null)
            return [chosen];
        List<string> names = [Cpu];
        if (SkipSimt(windows) is null)
            names.Add(Simt);
        if (hasGpu())
            names.Add(Cuda);
        return names;
    }

    public static string? SkipSimt(bool windows) => windows ? "the host executor is not built on Windows" : null;

    private static bool HasGpu()
    {
        try
        {
            using Device device = Device.Open(Cuda);
            return true;
        }
        catch (DeviceException)
        {
            return false;
        }
    }
}
