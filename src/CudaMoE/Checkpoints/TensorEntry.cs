namespace CudaMoE.Checkpoints;

/// <summary>One tensor of a safetensors file: row-major, little-endian.</summary>
/// <param name="Name">Unique in the file.</param>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Extents; empty for a scalar; any may be 0.</param>
/// <param name="Offset">First byte, counted from the start of the data part.</param>
/// <param name="ByteLength">Bytes: the product of the extents times the element's size.</param>
public sealed record TensorEntry(string Name, TensorDataType Type, IReadOnlyList<long> Shape, long Offset, long ByteLength)
{
    /// <summary>Number of elements.</summary>
    public long Count => ByteLength / Type.Size();

    /// <summary>The shape as in a file, e.g. "[8, 128]".</summary>
    internal string ShapeText => $"[{string.Join(", ", Shape)}]";

    /// <summary>Bytes of a tensor; false when they do not fit 63 bits.</summary>
    internal static bool TryByteLength(TensorDataType type, IReadOnlyList<long> shape, out long bytes)
    {
        Int128 product = type.Size();
        foreach (long extent in shape)
        {
            product *= extent;
            if (product > long.MaxValue)
            {
                bytes = 0;
                return false;
            }
        }

        bytes = (long)product;
        return true;
    }
}
