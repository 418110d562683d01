using CudaMoE.Interop;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Tensors;

/// <summary>Captured operations run again, and leave the stream usable whatever happens while they are captured.</summary>
public sealed unsafe class DeviceCaptureTests
{
    private const int Count = 5;

    /// <summary>averages += (values - averages) / 2</summary>
    private static void Average(DeviceStream stream, DeviceBuffer values, DeviceBuffer averages)
    {
        BalanceAverageArgs args = new()
        {
            StructSize = (uint)sizeof(BalanceAverageArgs),
            Rate = 0.5f,
            Count = Count,
            Values = (float*)values.Pointer,
            Averages = (float*)averages.Pointer,
        };
        NativeStatus.Check(NativeMethods.BalanceAverage(stream.Native, &args));
    }

    private static float[] Read(DeviceStream stream, DeviceBuffer buffer)
    {
        float[] values = new float[Count];
        stream.CopyToHost<float>(buffer.Pointer, values);
        return values;
    }

    [Theory]
    [DeviceData]
    public void Launch_RunsTheCallsOnWhatTheMemoryThenHolds(string spec)
    {
        using Device device = Device.Open(spec);
        using DeviceStream stream = device.CreateStream();
        using DeviceBuffer values = device.Allocate(Count * sizeof(float)), averages = device.Allocate(Count * sizeof(float));
        using DeviceCapture capture = stream.Capture(() => Average(stream, values, averages));
        Assert.Same(stream, capture.Stream);
        stream.CopyToDevice<float>([8, 8, 8, 8, 8], values.Pointer);
        Assert.Equal([0, 0, 0, 0, 0], Read(stream, averages));
        capture.Launch();
        Assert.Equal([4, 4, 4, 4, 4], Read(stream, averages));
        stream.CopyToDevice<float>([4, 6, 8, 0, -4], values.Pointer);
        capture.Launch();
        Assert.Equal([4, 5, 6, 2, 0], Read(stream, averages));
    }

    [Theory]
    [DeviceData]
    public void Capture_OfCallsThatThrow_LeavesTheStreamUsable(string spec)
    {
        using Device device = Device.Open(spec);
        using DeviceStream stream = device.CreateStream();
        using DeviceBuffer values = device.Allocate(Count * sizeof(float)), averages = device.Allocate(Count * sizeof(float));
        stream.CopyToDevice<float>([8, 8, 8, 8, 8], values.Pointer);
        NativeArgumentException error = Assert.Throws<NativeArgumentException>(() => stream.Capture(() =>
        {
            Average(stream, values, averages);
            stream.Synchronize();
        }));
        Assert.Contains("being captured", error.Message, StringComparison.Ordinal);
        stream.Synchronize();
        Assert.Equal([0, 0, 0, 0, 0], Read(stream, averages));
        Average(stream, values, averages);
        Assert.Equal([4, 4, 4, 4, 4], Read(stream, averages));
    }

    [Theory]
    [DeviceData]
    public void Dispose_InAnyOrder_LeavesNothingLive(string spec)
    {
        Device device = Device.Open(spec);
        DeviceStream stream = device.CreateStream();
        DeviceBuffer values = device.Allocate(Count * sizeof(float)), averages = device.Allocate(Count * sizeof(float));
        DeviceCapture capture = stream.Capture(() => Average(stream, values, averages));
        stream.Dispose();
        capture.Dispose();
        Assert.Throws<ObjectDisposedException>(capture.Launch);
        values.Dispose();
        averages.Dispose();
        Assert.Equal(0, device.QueryInfo().LiveAllocations);
        device.Dispose();
    }
}
