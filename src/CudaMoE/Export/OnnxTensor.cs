using System.Runtime.InteropServices;

namespace CudaMoE.Export;

/// <summary>Element types of the ONNX format that exported graphs have, with the format's numbers (onnx.proto, TensorProto.DataType).</summary>
internal enum OnnxType
{
    /// <summary>32-bit float.</summary>
    Float = 1,

    /// <summary>32-bit integer.</summary>
    Int32 = 6,

    /// <summary>64-bit integer.</summary>
    Int64 = 7,

    /// <summary>UTF-8 text.</summary>
    String = 8,

    /// <summary>Truth value.</summary>
    Bool = 9,

    /// <summary>64-bit float.</summary>
    Double = 11,
}

/// <summary>A constant of a graph: row-major, little-endian. Its bytes are made when the file is written, so that a large table is never in memory as a whole.</summary>
/// <param name="Name">Its name in the graph.</param>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Extents; empty for a scalar.</param>
/// <param name="ByteLength">Bytes that <paramref name="Write"/> writes.</param>
/// <param name="Write">Writes the elements.</param>
internal sealed record OnnxTensor(string Name, OnnxType Type, IReadOnlyList<long> Shape, long ByteLength, Action<Stream> Write)
{
    /// <summary>A constant of values in memory.</summary>
    public static OnnxTensor Of<T>(string name, OnnxType type, T[] values, IReadOnlyList<long> shape)
        where T : unmanaged =>
        new(name, type, shape, MemoryMarshal.AsBytes<T>(values).Length, stream => stream.Write(MemoryMarshal.AsBytes<T>(values)));
}

/// <summary>An extent of an input or output.</summary>
/// <param name="Size">Fixed size; below 0 where it is free.</param>
/// <param name="Name">Name of a free size; extents of one name are equal.</param>
internal readonly record struct OnnxDimension(long Size, string? Name)
{
    /// <summary>The number of samples.</summary>
    public static OnnxDimension Batch { get; } = new(-1, "batch");

    /// <summary>A fixed size.</summary>
    public static implicit operator OnnxDimension(long size) => new(size, null);

    /// <summary>A free size.</summary>
    public static implicit operator OnnxDimension(string name) => new(-1, name);
}

/// <summary>An input or output of a graph.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Extents.</param>
internal sealed record OnnxValue(string Name, OnnxType Type, IReadOnlyList<OnnxDimension> Shape);
