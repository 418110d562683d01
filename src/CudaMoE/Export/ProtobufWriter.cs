using System.Buffers;
using System.Text;

namespace CudaMoE.Export;

/// <summary>
/// Writes one message of the protobuf wire format (https://protobuf.dev/programming-guides/encoding), fields in the order of the calls. The dozen messages
/// of an ONNX file need no more than this, so the library depends on no protobuf package and on no generated code.
/// </summary>
internal sealed class ProtobufWriter
{
    private const int VarintType = 0;
    private const int BytesType = 2;
    private const int FixedType = 5;
    private readonly ArrayBufferWriter<byte> _bytes = new();

    /// <summary>The message so far.</summary>
    public ReadOnlySpan<byte> Written => _bytes.WrittenSpan;

    /// <summary>Bytes of the message so far.</summary>
    public int Length => _bytes.WrittenCount;

    /// <summary>An integer; a negative one takes ten bytes, as the format has it for int32 and int64.</summary>
    public ProtobufWriter Integer(int field, long value)
    {
        Tag(field, VarintType);
        Varint((ulong)value);
        return this;
    }

    /// <summary>A 32-bit float.</summary>
    public ProtobufWriter Single(int field, float value)
    {
        Tag(field, FixedType);
        Span<byte> bytes = stackalloc byte[sizeof(float)];
        System.Buffers.Binary.BinaryPrimitives.WriteSingleLittleEndian(bytes, value);
        _bytes.Write(bytes);
        return this;
    }

    /// <summary>A text, in UTF-8.</summary>
    public ProtobufWriter Text(int field, string value) => Bytes(field, Encoding.UTF8.GetBytes(value));

    /// <summary>A message within this one.</summary>
    public ProtobufWriter Message(int field, ProtobufWriter value) => Bytes(field, value.Written);

    /// <summary>Bytes.</summary>
    public ProtobufWriter Bytes(int field, ReadOnlySpan<byte> value)
    {
        Header(field, value.Length);
        _bytes.Write(value);
        return this;
    }

    /// <summary>What stands before bytes or a message of that length, which the caller writes elsewhere.</summary>
    public ProtobufWriter Header(int field, long length)
    {
        Tag(field, BytesType);
        Varint((ulong)length);
        return this;
    }

    private void Tag(int field, int type) => Varint(((ulong)field << 3) | (uint)type);

    private void Varint(ulong value)
    {
        const int most = 10;
        Span<byte> bytes = _bytes.GetSpan(most);
        int count = 0;
        for (; value >= 0x80; value >>= 7)
            bytes[count++] = (byte)(value | 0x80);
        bytes[count++] = (byte)value;
        _bytes.Advance(count);
    }
}
