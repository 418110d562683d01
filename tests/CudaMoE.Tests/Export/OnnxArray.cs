using CudaMoE.Export;

namespace CudaMoE.Tests.Export;

/// <summary>A tensor of the interpreter: row-major, numbers as doubles (integers and truth values too), texts apart.</summary>
internal sealed class OnnxArray
{
    public OnnxArray(OnnxType type, int[] shape, double[] values, string[]? texts = null)
    {
        Assert.Equal(shape.Aggregate(1, (a, b) => a * b), texts?.Length ?? values.Length);
        Type = type;
        Shape = shape;
        Values = values;
        Texts = texts;
    }

    public OnnxType Type { get; }

    public int[] Shape { get; }

    public double[] Values { get; }

    public string[]? Texts { get; }

    public int Rank => Shape.Length;

    public int Count => Values.Length;

    public int[] ToIntegers() => [.. Values.Select(v => checked((int)v))];

    /// <summary>An axis counted from the front.</summary>
    public int Axis(long axis) => checked((int)(axis < 0 ? axis + Rank : axis));

    /// <summary>Elements before, at and behind an axis.</summary>
    public (int Outer, int Size, int Inner) Around(int axis) =>
        (Product(Shape[..axis]), Shape[axis], Product(Shape[(axis + 1)..]));

    public OnnxArray Map(Func<double, double> function) => new(Type, Shape, [.. Values.Select(function)]);

    public OnnxArray Reshaped(int[] shape) => new(Type, shape, Values);

    /// <summary>Element by element with the format's (NumPy's) broadcasting.</summary>
    public static OnnxArray Broadcast(OnnxType type, Func<double[], double> function, params OnnxArray[] arrays)
    {
        int rank = arrays.Max(a => a.Rank);
        int[][] shapes = [.. arrays.Select(a => Enumerable.Repeat(1, rank - a.Rank).Concat(a.Shape).ToArray())];
        int[] shape = [.. Enumerable.Range(0, rank).Select(axis =>
        {
            int[] sizes = [.. shapes.Select(s => s[axis]).Where(size => size != 1).Distinct()];
            Assert.True(sizes.Length <= 1, $"sizes {string.Join(", ", sizes)} do not broadcast");
            return sizes.Length == 0 ? 1 : sizes[0];
        })];
        double[] result = new double[Product(shape)];
        double[] operands = new double[arrays.Length];
        for (int i = 0; i < result.Length; i++)
        {
            for (int a = 0; a < arrays.Length; a++)
                operands[a] = arrays[a].Values[Place(i, shape, shapes[a])];
            result[i] = function(operands);
        }

        return new(type, shape, result);
    }

    private static int Product(int[] sizes) => sizes.Aggregate(1, (a, b) => a * b);

    private static int Place(int index, int[] shape, int[] operand)
    {
        int place = 0;
        int stride = 1;
        for (int axis = shape.Length - 1; axis >= 0; axis--)
        {
            int at = index % shape[axis];
            index /= shape[axis];
            place += (operand[axis] == 1 ? 0 : at) * stride;
            stride *= operand[axis];
        }

        return place;
    }
}
