using System.Numerics.Tensors;
using CudaMoE.Layers;
using CudaMoE.Streaming.Xsmoe;

namespace CudaMoE.Streaming;

/// <summary>
/// How much each entry of each mixture contributes: U_k = sum over items of n |g_k E_k(x)|, with E_0 the encoder's own state and n how often the item
/// counts. It is measured by one pass
/// over the items with the weights that a window ends with.
/// </summary>
internal static class ExpertUtilization
{
    /// <summary>U for each side, layer and entry, the encoder's first.</summary>
    /// <param name="model">The model.</param>
    /// <param name="counts">How often each item counts, by number.</param>
    public static double[][][] Measure(XsmoeModel model, long[] counts)
    {
        double[][][] sums = [.. model.Shape.Sides.Select((_, side) => model.Layers(side).Select(layer => new double[layer.Experts.Count + 1]).ToArray())];
        int[] items = [.. Enumerable.Range(1, counts.Length - 1).Where(item => counts[item] > 0)];
        Dictionary<string, float[]> ups = model.Parameters.Where(p => p.Name.EndsWith(".up", StringComparison.Ordinal)).ToDictionary(p => p.Name, model.Read);
        for (int first = 0; first < items.Length; first += model.Shape.MaxItems)
        {
            int[] part = items[first..Math.Min(items.Length, first + model.Shape.MaxItems)];
            model.EncodeItems(part);
            for (int side = 0; side < sums.Length; side++)
            {
                for (int j = 0; j < sums[side].Length; j++)
                    Add(model, side, j, part, counts, ups, sums[side][j]);
            }
        }

        return sums;
    }

    private static void Add(XsmoeModel model, int side, int j, int[] items, long[] counts, Dictionary<string, float[]> ups, double[] sums)
    {
        SideLayer layer = model.Layers(side)[j];
        SideShape shape = model.Shape.Sides[side];
        int experts = layer.Experts.Count, width = shape.Width, adapter = model.Shape.Adapter;
        float[] gates = Read(layer.Gates), hidden = Read(layer.Hidden), x = Read(layer.X), h = Read(layer.H);
        float[] output = new float[width];
        for (int row = 0; row < items.Length; row++)
        {
            long count = counts[items[row]];
            sums[0] += count * (double)gates[row * (experts + 1)] * TensorPrimitives.Norm<float>(h.AsSpan(row * width, width));
            for (int k = 0; k < experts; k++)
            {
                x.AsSpan(row * width, width).CopyTo(output);
                float[] up = ups[$"{shape.Name}.layers.{j}.experts.{k}.up"];
                for (int a = 0; a < adapter; a++)
                    TensorPrimitives.MultiplyAdd(up.AsSpan(a * width, width), hidden[(((row * experts) + k) * adapter) + a], output, output);
                sums[k + 1] += count * (double)gates[(row * (experts + 1)) + k + 1] * TensorPrimitives.Norm<float>(output);
            }
        }

        // Rows without gaps, whatever the slot's stride is.
        float[] Read(Slot slot)
        {
            float[] all = new float[(int)(items.Length * slot.RowStride)];
            model.Stream.CopyToHost<float>(slot.Pointer, all.AsSpan(0, all.Length - (int)(slot.RowStride - slot.Columns)));
            if (slot.RowStride == slot.Columns)
                return all;
            float[] packed = new float[items.Length * slot.Columns];
            for (int row = 0; row < items.Length; row++)
                all.AsSpan((int)(row * slot.RowStride), (int)slot.Columns).CopyTo(packed.AsSpan((int)(row * slot.Columns)));
            return packed;
        }
    }
}
