using System.Numerics.Tensors;
using CudaMoE.Data;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;

namespace CudaMoE.Training;

/// <summary>Finds the first tensor that holds an infinity or a NaN.</summary>
internal static unsafe class NonFiniteFinder
{
    /// <summary>The first parameter with a value that is not finite, or null.</summary>
    public static string? InParameters(MultiTaskModel model)
    {
        foreach (Parameter parameter in model.Parameters)
        {
            if (!AllFinite(model, parameter))
                return parameter.Name;
        }

        return null;
    }

    /// <summary>Where a bad loss of task <paramref name="task"/> comes from: an input of the batch, a parameter, or only the logits.</summary>
    /// <param name="model">The model.</param>
    /// <param name="batch">The batch; null when it is not known any more.</param>
    /// <param name="task">Index of the task.</param>
    public static string OfLoss(MultiTaskModel model, Batch? batch, int task)
    {
        if (batch != null && !AllFinite(batch.DensePointer, (long)batch.Rows * batch.Layout.DenseWidth))
            return "the dense features of the batch";
        return InParameters(model) is { } name ? $"parameter {name}" : $"the logits of task {model.Description.Tasks[task].Name}";
    }

    private static bool AllFinite(MultiTaskModel model, Parameter parameter)
    {
        bool halves = parameter.Type == ElementType.Bf16;
        if (model.Device.Info.HostAccessible)
            return halves ? AllFiniteHalves((ushort*)parameter.Value, parameter.Count) : AllFinite((float*)parameter.Value, parameter.Count);
        const int block = 1 << 20;
        int size = halves ? sizeof(ushort) : sizeof(float);
        byte[] copy = new byte[Math.Min(block, parameter.Count) * size];
        fixed (byte* pointer = copy)
        {
            for (long start = 0; start < parameter.Count; start += block)
            {
                long count = Math.Min(block, parameter.Count - start);
                model.Stream.CopyToHost(parameter.Value + (nint)(start * size), (nint)pointer, count * size);
                if (halves ? !AllFiniteHalves((ushort*)pointer, count) : !AllFinite((float*)pointer, count))
                    return false;
            }
        }

        return true;
    }

    private static bool AllFinite(float* values, long count)
    {
        const int block = 1 << 24;
        for (long start = 0; start < count; start += block)
        {
            ReadOnlySpan<float> span = new(values + start, (int)Math.Min(block, count - start));
            // MaxMagnitude passes a NaN on.
            float magnitude = TensorPrimitives.MaxMagnitude(span);
            if (!float.IsFinite(magnitude))
                return false;
        }

        return true;
    }

    private static bool AllFiniteHalves(ushort* values, long count)
    {
        for (long i = 0; i < count; i++)
        {
            if ((values[i] & 0x7F80) == 0x7F80)
                return false;
        }

        return true;
    }
}
