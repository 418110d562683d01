using CudaMoE.Tensors;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Tensors;

/// <summary>Streams and memory of other code.</summary>
public sealed class ForeignMemoryTests
{
    [Theory]
    [DeviceData]
    public void WrappedMemoryIsUsedAndNotFreed(string spec)
    {
        using Device device = Device.Open(spec);
        using DeviceStream stream = device.CreateStream();
        using DeviceBuffer owner = device.Allocate(64);
        long live = device.QueryInfo().LiveAllocations;

        DeviceBuffer wrapped = device.WrapMemory(owner.Pointer, 64);
        stream.Fill(wrapped.Pointer, 7, wrapped.Bytes);
        wrapped.Dispose();

        byte[] seen = new byte[64];
        stream.CopyToHost<byte>(owner.Pointer, seen);
        Assert.All(seen, value => Assert.Equal(7, value));
        Assert.True(owner.IsOwner);
        Assert.False(wrapped.IsOwner);
        Assert.Throws<ObjectDisposedException>(() => wrapped.Pointer);
        Assert.Equal(live, device.QueryInfo().LiveAllocations);
    }

    [Theory]
    [DeviceData]
    public void NullAndNegativeSizesAreRefused(string deviceName)
    {
        using Device device = Device.Open(deviceName);
        Assert.Contains("pointer is null", Assert.Throws<ArgumentException>(() => device.WrapMemory(0, 8)).Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => device.WrapMemory(64, -1));
    }

    [Theory]
    [DeviceData]
    public void AWrappedStreamIsTheSameQueue(string spec)
    {
        using Device device = Device.Open(spec);
        using DeviceStream stream = device.CreateStream();
        if (device.Info.HostAccessible)
        {
            Assert.Throws<NativeUnsupportedException>(() => stream.DangerousGetNativeStream());
            Assert.Throws<NativeUnsupportedException>(() => device.WrapStream(64));
            return;
        }

        using DeviceBuffer memory = device.Allocate(16);
        byte[] seen = new byte[16];
        using (DeviceStream wrapped = device.WrapStream(stream.DangerousGetNativeStream()))
        {
            Assert.Equal(stream.DangerousGetNativeStream(), wrapped.DangerousGetNativeStream());
            stream.Fill(memory.Pointer, 1, 16);
            wrapped.Fill(memory.Pointer, 2, 16);
            stream.CopyToHost<byte>(memory.Pointer, seen);
            Assert.All(seen, value => Assert.Equal(2, value));
        }

        stream.Fill(memory.Pointer, 3, 16);
        stream.CopyToHost<byte>(memory.Pointer, seen);
        Assert.All(seen, value => Assert.Equal(3, value));
    }

    [SimtFact]
    public void TheDefaultStreamIsRefused()
    {
        using Device device = Device.Open(TestDevices.Simt);
        Assert.Contains("native is null", Assert.Throws<NativeArgumentException>(() => device.WrapStream(0)).Message);
    }
}
