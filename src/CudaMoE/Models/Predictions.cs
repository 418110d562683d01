using CudaMoE.Description;
using CudaMoE.Tensors;

namespace CudaMoE.Models;

/// <summary>Turns logits into what users read: probabilities (binary, one a class) or the raw number (regression, still transformed).</summary>
public static class Predictions
{
    /// <summary>Predictions of a task for the rows of the last forward.</summary>
    /// <param name="model">A model that ran forward; this waits for its device.</param>
    /// <param name="task">Index of the task.</param>
    /// <param name="destination">[rows, outputs] of the task, row-major.</param>
    public static void Read(MultiTaskModel model, int task, Span<float> destination) => Read(model, task, model.ReadLogits(task), destination);

    /// <summary>Probabilities of a task with a given one, where that one is the case: those of the task's own tower.</summary>
    /// <param name="model">A model that ran forward; this waits for its device.</param>
    /// <param name="task">Index of the task.</param>
    /// <param name="destination">[rows].</param>
    public static void ReadConditional(MultiTaskModel model, int task, Span<float> destination) =>
        Read(model, task, model.ReadTowerLogits(task), destination);

    private static unsafe void Read(MultiTaskModel model, int task, Tensor logits, Span<float> destination)
    {
        int outputs = model.Outputs[task];
        if (destination.Length < logits.Rows * outputs)
            throw new ArgumentException($"destination has room for {destination.Length} numbers; {logits.Rows * outputs} are needed", nameof(destination));
        TaskType type = model.Description.Tasks[task].Type;
        float* row = (float*)logits.Pointer;
        for (long r = 0; r < logits.Rows; r++, row += logits.RowStride)
        {
            Span<float> target = destination.Slice((int)(r * outputs), outputs);
            switch (type)
            {
                case TaskType.Binary:
                    target[0] = 1 / (1 + MathF.Exp(-row[0]));
                    break;
                case TaskType.Regression:
                    target[0] = row[0];
                    break;
                default:
                    System.Numerics.Tensors.TensorPrimitives.SoftMax(new ReadOnlySpan<float>(row, outputs), target);
                    break;
            }
        }
    }
}
