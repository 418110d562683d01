using CudaMoE.Tensors;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Tensors;

public sealed class DeviceNotesTests
{
    [Theory]
    [DeviceData]
    public void ADeviceOnWhichNothingWasStruckOutHasNoNotes(string spec)
    {
        using Device device = Device.Open(spec);
        Assert.Empty(device.QueryNotes());
    }

    [Theory]
    [DeviceData]
    public void ADisposedDeviceIsRefused(string deviceName)
    {
        Device device = Device.Open(deviceName);
        device.Dispose();
        Assert.Throws<ObjectDisposedException>(device.QueryNotes);
    }
}
