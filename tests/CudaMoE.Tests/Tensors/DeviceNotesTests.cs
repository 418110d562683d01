using CudaMoE.Tensors;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Tensors;

public sealed class DeviceNotesTests
{
    [Theory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void ADeviceOnWhichNothingWasStruckOutHasNoNotes(string spec)
    {
        using Device device = Device.Open(spec);
        Assert.Empty(device.QueryNotes());
    }

    [Fact]
    public void ADisposedDeviceIsRefused()
    {
        Device device = Device.Open("cpu");
        device.Dispose();
        Assert.Throws<ObjectDisposedException>(device.QueryNotes);
    }
}
