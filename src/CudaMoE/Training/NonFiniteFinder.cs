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
            if (parameter.Type == ElementType.F32 ? !AllFinite((float*)parameter.Value, parameter.Count) : !AllFiniteHalves((ushort*)parameter.Value, parameter.Count))
                return parameter.Name;
        }

        return null;
    }

    /// <summary>Where a bad loss of task <paramref name="task"/> comes from: an input of the batch, a parameter, or only the logits.</summary>
    public static string OfLoss(MultiTaskModel model, Batch batch, int task)
    {
        if (!AllFinite(batch.DensePointer, (long)batch.Rows * batch.Layout.DenseWidth))
            return "the dense features of the batch";
        return InParameters(model) is { } name ? $"parameter {name}" : $"the logits of task {model.Description.Tasks[task].Name}";
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
