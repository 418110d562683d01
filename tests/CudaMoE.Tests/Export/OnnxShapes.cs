using CudaMoE.Export;

namespace CudaMoE.Tests.Export;

/// <summary>Operators of the interpreter that move elements.</summary>
internal static class OnnxShapes
{
    public static OnnxArray Concat(OnnxArray[] x, int axis)
    {
        Assert.Single(x.Select(a => a.Type).Distinct());
        int outer = x[0].Around(axis).Outer;
        List<double> values = [];
        for (int o = 0; o < outer; o++)
        {
            foreach (OnnxArray part in x)
            {
                (int partOuter, int size, int inner) = part.Around(axis);
                Assert.Equal(outer, partOuter);
                values.AddRange(part.Values[(o * size * inner)..((o + 1) * size * inner)]);
            }
        }

        int[] shape = [.. x[0].Shape];
        shape[axis] = x.Sum(part => part.Shape[axis]);
        return new(x[0].Type, shape, [.. values]);
    }

    public static OnnxArray[] Split(OnnxArray x, int axis, int parts)
    {
        Assert.Equal(0, x.Shape[axis] % parts);
        int size = x.Shape[axis] / parts;
        return [.. Enumerable.Range(0, parts).Select(part => Gather(x, new(OnnxType.Int64, [size], [.. Enumerable.Range(part * size, size).Select(i => (double)i)]), axis))];
    }

    public static OnnxArray Slice(OnnxArray x, int first, int end, int axis) =>
        Gather(x, new(OnnxType.Int64, [end - first], [.. Enumerable.Range(first, end - first).Select(i => (double)i)]), axis);

    public static OnnxArray Transpose(OnnxArray x, int[] order)
    {
        int[] shape = [.. order.Select(axis => x.Shape[axis])];
        int[] strides = new int[x.Rank];
        for (int axis = x.Rank - 1, stride = 1; axis >= 0; stride *= x.Shape[axis--])
            strides[axis] = stride;
        double[] values = new double[x.Count];
        for (int i = 0; i < values.Length; i++)
        {
            int rest = i;
            int place = 0;
            for (int axis = shape.Length - 1; axis >= 0; axis--)
            {
                place += rest % shape[axis] * strides[order[axis]];
                rest /= shape[axis];
            }

            values[i] = x.Values[place];
        }

        return new(x.Type, shape, values);
    }

    public static OnnxArray Gather(OnnxArray x, OnnxArray indices, int axis)
    {
        (int outer, int size, int inner) = x.Around(axis);
        List<double> values = [];
        for (int o = 0; o < outer; o++)
        {
            foreach (int index in indices.ToIntegers())
            {
                Assert.InRange(index, 0, size - 1);
                values.AddRange(x.Values[(((o * size) + index) * inner)..(((o * size) + index + 1) * inner)]);
            }
        }

        return new(x.Type, [.. x.Shape[..axis], .. indices.Shape, .. x.Shape[(axis + 1)..]], [.. values]);
    }

    /// <summary>Along the last axis, which is the one that exported models use.</summary>
    public static OnnxArray GatherElements(OnnxArray x, OnnxArray indices, int axis)
    {
        Assert.Equal(x.Rank - 1, axis);
        int k = indices.Shape[^1];
        return new(x.Type, indices.Shape, [.. indices.ToIntegers().Select((index, i) => x.Values[(i / k * x.Shape[^1]) + index])]);
    }

    /// <summary>Along the last axis; indices of a row are distinct.</summary>
    public static OnnxArray ScatterElements(OnnxArray x, OnnxArray indices, OnnxArray updates, int axis)
    {
        Assert.Equal(x.Rank - 1, axis);
        Assert.Equal(indices.Shape, updates.Shape);
        int k = indices.Shape[^1];
        double[] values = [.. x.Values];
        int[] places = [.. indices.ToIntegers().Select((index, i) => (i / k * x.Shape[^1]) + index)];
        Assert.Equal(places.Length, places.Distinct().Count());
        for (int i = 0; i < places.Length; i++)
            values[places[i]] = updates.Values[i];
        return new(x.Type, x.Shape, values);
    }

    /// <summary>The k largest of the last axis in descending order, the lower index first among equals.</summary>
    public static OnnxArray[] TopK(OnnxArray x, int k, int axis)
    {
        Assert.Equal(x.Rank - 1, axis);
        int size = x.Shape[^1];
        List<double> values = [];
        List<double> indices = [];
        for (int row = 0; row < x.Count / size; row++)
        {
            foreach (int i in Enumerable.Range(0, size).OrderByDescending(i => x.Values[(row * size) + i]).ThenBy(i => i).Take(k))
            {
                values.Add(x.Values[(row * size) + i]);
                indices.Add(i);
            }
        }

        int[] shape = [.. x.Shape[..^1], k];
        return [new(x.Type, shape, [.. values]), new(OnnxType.Int64, shape, [.. indices])];
    }
}
