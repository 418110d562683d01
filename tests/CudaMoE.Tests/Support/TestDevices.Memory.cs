using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;

namespace CudaMoE.Tests.Support;

/// <content>What is in a device's memory, as arrays.</content>
internal static partial class TestDevices
{
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
