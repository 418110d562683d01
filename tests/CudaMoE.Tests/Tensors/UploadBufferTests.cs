using CudaMoE.Tensors;
using CudaMoE.Tests.Support;

namespace CudaMoE.Tests.Tensors;

/// <summary>Fillings of device memory, in parts and one after the other.</summary>
public sealed unsafe class UploadBufferTests
{
    [Theory]
    [DeviceData]
    public void Send_PartsOfFillingsOfGrowingSize_ArriveWhole(string deviceName)
    {
        using Device device = Device.Open(deviceName);
        using DeviceStream stream = device.CreateStream();
        using UploadBuffer upload = new(stream, 2);
        foreach (int bytes in new[] { 1, 1000, 64, 70_001 })
        {
            byte* host = upload.Begin(bytes);
            for (int i = 0; i < bytes; i++)
            {
                host[i] = Value(bytes, i);
                if (i == bytes / 3 || i == bytes / 2)
                {
                    upload.Send(i + 1);
                    upload.Send(i + 1);
                }
            }

            byte[] received = new byte[bytes];
            stream.CopyToHost<byte>((nint)upload.Commit(), received);
            Assert.Equal(Enumerable.Range(0, bytes).Select(i => Value(bytes, i)), received);
        }
    }

    private static byte Value(int filling, int i) => (byte)((i * 131) + (i >> 8) + filling);
}
