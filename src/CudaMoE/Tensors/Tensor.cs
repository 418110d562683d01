namespace CudaMoE.Tensors;

/// <summary>Element types of a tensor.</summary>
public enum ElementType
{
    /// <summary>32-bit float.</summary>
    F32 = 0,

    /// <summary>bfloat16.</summary>
    Bf16 = 1,
}

/// <summary>
/// A matrix view of device memory: rows of <see cref="Columns"/> elements, <see cref="RowStride"/> elements apart. It does not own the memory and does not keep it:
/// keep the <see cref="DeviceBuffer"/>, undisposed, until the stream has run what uses the tensor.
/// </summary>
/// <param name="Pointer">First element.</param>
/// <param name="Rows">Rows.</param>
/// <param name="Columns">Elements of a row.</param>
/// <param name="RowStride">Elements from one row to the next, at least <paramref name="Columns"/>.</param>
/// <param name="Type">Element type.</param>
public readonly record struct Tensor(nint Pointer, long Rows, long Columns, long RowStride, ElementType Type = ElementType.F32)
{
    /// <summary>Bytes of an element.</summary>
    public int ElementBytes => Type == ElementType.F32 ? 4 : 2;

    /// <summary>Whether it has memory.</summary>
    public bool IsNull => Pointer == 0;

    /// <summary>The first <paramref name="rows"/> rows.</summary>
    public Tensor Take(long rows)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(rows, Rows);
        return this with { Rows = rows };
    }

    /// <summary>A range of columns of every row.</summary>
    public Tensor Slice(long column, long columns)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(column);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(column + columns, Columns);
        return this with { Pointer = Pointer + (nint)(column * ElementBytes), Columns = columns };
    }

    /// <summary>The elements as host memory; only for devices whose memory the host can access, and rows without gaps.</summary>
    public unsafe Span<float> AsSpan()
    {
        if (Type != ElementType.F32 || (RowStride != Columns && Rows > 1))
            throw new InvalidOperationException("only an f32 tensor without gaps between rows has a span");
        return new((void*)Pointer, checked((int)(Rows * Columns)));
    }
}
