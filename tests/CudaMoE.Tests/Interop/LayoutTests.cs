using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using CudaMoE.Interop;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Interop;

/// <summary>The structs that cross the boundary have the sizes that the native library reports, and every import is exported.</summary>
public sealed class LayoutTests
{
    public static TheoryData<string> Structs { get; } = [.. typeof(NativeMethods).Assembly.GetTypes()
        .Where(t => t.Namespace == "CudaMoE.Interop" && t.IsValueType && t.GetFields().Any(f => f.Name == "StructSize"))
        .Select(t => t.Name)
        .Concat(["EmbeddingTable", "EmbeddingFeature", "EmbeddingCache", "EmbeddingCacheCounters", "LossTask", "OptimizerTensor", "StepNumbers"])];

    [Theory]
    [MemberData(nameof(Structs))]
    public void Struct_Size_IsWhatTheNativeLibraryReports(string name)
    {
        NativeLibraryLoader.EnsureLoaded();
        Type type = typeof(NativeMethods).Assembly.GetType($"CudaMoE.Interop.{name}")!;
        long native = NativeMethods.StructSize(NativeName(name));
        Assert.True(native > 0, $"{NativeName(name)} is not known to the native library");
        Assert.Equal(native, Marshal.SizeOf(type));
    }

    [Fact]
    public void Structs_AllOfThem_AreCovered() => Assert.True(Structs.Count >= 25, $"only {Structs.Count} structs were found");

    [Fact]
    public void Imports_AllOfThem_AreExported()
    {
        NativeLibraryLoader.EnsureLoaded();
        nint library = NativeLibrary.Load(NativeLibraryLoader.LoadedFrom!);
        string[] entries = [.. typeof(NativeMethods).GetMethods(BindingFlags.Public | BindingFlags.Static)
            .Where(m => m.DeclaringType == typeof(NativeMethods))
            .Select(m => NativeName(m.Name))];
        Assert.True(entries.Length > 40);
        Assert.All(entries, entry => Assert.True(NativeLibrary.TryGetExport(library, entry, out _), $"{entry} is not exported"));
    }

    [Fact]
    public void Device_BadSpec_ThrowsWithTheNativeText()
    {
        NativeArgumentException error = Assert.Throws<NativeArgumentException>(() => Device.Open("toaster"));
        Assert.Contains("toaster", error.Message, StringComparison.Ordinal);
        Assert.Contains("cpu", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Device_NotThere_SaysWhichBackend()
    {
        DeviceException error = Assert.Throws<DeviceException>(() => Device.Open("cuda:999"));
        Assert.Contains("cuda", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [DeviceData]
    public void Device_AfterDispose_LeavesNothingLive(string deviceName)
    {
        using Device device = Device.Open(deviceName);
        DeviceBuffer buffer = device.Allocate(1000);
        Assert.Equal(1, device.QueryInfo().LiveAllocations);
        buffer.Dispose();
        Assert.Equal(0, device.QueryInfo().LiveAllocations);
        Assert.Equal(0, device.QueryInfo().LiveBytes);
    }

    [Theory]
    [DeviceData]
    public void Device_DisposedBeforeItsBuffers_StaysOpenUntilTheyGo(string deviceName)
    {
        Device device = Device.Open(deviceName);
        DeviceBuffer buffer = device.Allocate(64);
        DeviceStream stream = device.CreateStream();
        device.Dispose();
        Assert.Throws<ObjectDisposedException>(() => device.Allocate(1));
        Assert.Throws<ObjectDisposedException>(() => device.AllocateMapped(1));
        Assert.Throws<ObjectDisposedException>(() => device.AllocateHost(1));
        Assert.Throws<ObjectDisposedException>(() => device.WrapMemory(buffer.Pointer, 64));
        Assert.Throws<ObjectDisposedException>(device.CreateStream);
        Assert.Throws<ObjectDisposedException>(() => device.WrapStream(1));
        Assert.Throws<ObjectDisposedException>(() => device.QueryInfo());
        Assert.Throws<ObjectDisposedException>(device.QueryNotes);
        byte[] read = new byte[64];
        stream.Fill(buffer.Pointer, 1, 64);
        stream.CopyToHost(buffer.Pointer, read.AsSpan());
        Assert.All(read, value => Assert.Equal(1, value));
        stream.Dispose();
        buffer.Dispose();
        device.Dispose();
        Assert.Throws<ObjectDisposedException>(() => device.QueryInfo());
    }

    [Fact]
    public void BackendReport_Query_ListsCpuAsUsable()
    {
        BackendReport report = BackendReport.Query();
        Assert.NotNull(report.LibraryPath);
        Assert.Contains(report.Backends, b => b.Name == "cpu" && b.Usable);
        Assert.Contains(report.Backends, b => b.Name == "cuda" && (b.Usable || b.Reason.Length > 0));
    }

    private static string NativeName(string name)
    {
        StringBuilder text = new("cudamoe");
        foreach (char c in name)
            text.Append(char.IsUpper(c) ? $"_{char.ToLowerInvariant(c)}" : c.ToString());
        return text.ToString();
    }
}
