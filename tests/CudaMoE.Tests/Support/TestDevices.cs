using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;

namespace CudaMoE.Tests.Support;

/// <summary>The devices that tests of models and training run on, and their memory as arrays.</summary>
internal static class TestDevices
{
    public const string Cpu = "cpu:threads=2";

    /// <summary>The kernels of the GPU on the host executor. Its memory is closed to the host, so a test that passes reads nothing in place.</summary>
    public const string Simt = "simt";

    public const string Cuda = "cuda";

    /// <summary>The devices of this machine, a GPU among them where one is usable.</summary>
    public static IReadOnlyList<string> Names { get; } = HasGpu() ? [Cpu, Simt, Cuda] : [Cpu, Simt];

    /// <summary><see cref="Names"/> as rows of a theory.</summary>
    public static TheoryData<string> All { get; } = [.. Names];

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

    /// <summary>Elements from a device address on.</summary>
    public static float[] Read(MultiTaskModel model, nint address, long count)
    {
        float[] values = new float[count];
        model.Stream.CopyToHost<float>(address, values);
        return values;
    }

    /// <summary>A matrix, row by row.</summary>
    public static float[] Read(MultiTaskModel model, Tensor tensor) =>
        [.. Enumerable.Range(0, (int)tensor.Rows).SelectMany(row => Read(model, tensor.Pointer + (nint)(row * tensor.RowStride * sizeof(float)), tensor.Columns))];

    /// <summary>The values of a parameter.</summary>
    public static float[] Read(MultiTaskModel model, Parameter parameter)
    {
        if (parameter.Type == ElementType.F32)
            return Read(model, parameter.Value, parameter.Count);
        ushort[] halves = new ushort[parameter.Count];
        model.Stream.CopyToHost<ushort>(parameter.Value, halves);
        return [.. halves.Select(BFloat16.ToSingle)];
    }

    /// <summary>Sets an f32 parameter.</summary>
    public static void Write(MultiTaskModel model, Parameter parameter, float[] values)
    {
        model.Stream.CopyToDevice<float>(values, parameter.Value);
        model.ParametersChanged();
    }
}
