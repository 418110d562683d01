using System.Numerics.Tensors;
using CudaMoE.Balancing;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// Sums over rows, and factors by column, of the stored task gradients, on the host: about 2 * rows * tasks * width additions, in double, row after row. For the balancers that look
/// at more than the Gram matrix.
/// </summary>
/// <param name="context">The context.</param>
/// <param name="gradients">The gradient of each task, all of one width.</param>
/// <param name="representations">What they are gradients of.</param>
internal sealed unsafe class GradientColumns(LayerContext context, Slot[] gradients, Slot[] representations)
{
    private readonly int _width = (int)gradients[0].Columns;

    /// <summary>Sums of the columns, see <see cref="ColumnKind"/>.</summary>
    /// <param name="rows">Rows of the batch.</param>
    /// <param name="kind">Which sums.</param>
    /// <param name="sums">Receives [tasks, width], for halves [2, tasks, width].</param>
    public void Sum(long rows, ColumnKind kind, Span<double> sums)
    {
        RequireHost();
        sums.Clear();
        int tasks = gradients.Length;
        bool halves = kind == ColumnKind.Halves;
        for (long row = 0; row < rows; row++)
        {
            for (int task = 0; task < tasks; task++)
            {
                ReadOnlySpan<float> gradient = Row(gradients[task], row);
                Span<double> sum = sums.Slice(((halves && (row & 1) == 1 ? tasks : 0) + task) * _width, _width);
                if (kind == ColumnKind.Signed)
                    AddSigned(gradient, Row(representations[task], row), sum);
                else
                    Add(gradient, sum);
            }
        }

        if (halves)
            TensorPrimitives.Multiply(sums, 2.0, sums);
    }

    /// <summary>Multiplies the columns of the tasks' gradients by factors [tasks, width], in place.</summary>
    public void Scale(long rows, ReadOnlySpan<float> factors)
    {
        RequireHost();
        for (long row = 0; row < rows; row++)
        {
            for (int task = 0; task < gradients.Length; task++)
            {
                Span<float> gradient = Row(gradients[task], row);
                TensorPrimitives.Multiply(gradient, factors.Slice(task * _width, _width), gradient);
            }
        }
    }

    private static void Add(ReadOnlySpan<float> gradient, Span<double> sum)
    {
        for (int k = 0; k < sum.Length; k++)
            sum[k] += gradient[k];
    }

    private static void AddSigned(ReadOnlySpan<float> gradient, ReadOnlySpan<float> value, Span<double> sum)
    {
        for (int k = 0; k < sum.Length; k++)
            sum[k] += value[k] > 0 ? gradient[k] : value[k] < 0 ? -gradient[k] : 0;
    }

    private static Span<float> Row(Slot slot, long row) => new(slot.Data + (row * slot.RowStride), (int)slot.Columns);

    private void RequireHost()
    {
        if (!context.Device.Info.HostAccessible)
            throw new NativeUnsupportedException($"device {context.Device.Spec}: this balancer looks at stored gradients, which the host cannot reach there; use one that needs the Gram matrix only");
        context.Stream.Synchronize();
    }
}
