using System.Text;

namespace CudaMoE.Tests.Export;

/// <summary>A protobuf message read field by field, by the format's specification: what the writer wrote, seen by other eyes.</summary>
internal sealed class ProtobufMessage
{
    private readonly List<(int Field, ulong Number, byte[] Bytes)> _fields = [];

    public ProtobufMessage(ReadOnlySpan<byte> data)
    {
        while (data.Length > 0)
        {
            ulong tag = Varint(ref data);
            int field = checked((int)(tag >> 3));
            Assert.True(field > 0, "field 0 is not allowed");
            switch (tag & 7)
            {
                case 0:
                    _fields.Add((field, Varint(ref data), []));
                    break;
                case 2:
                    int length = checked((int)Varint(ref data));
                    _fields.Add((field, 0, data[..length].ToArray()));
                    data = data[length..];
                    break;
                case 5:
                    _fields.Add((field, BitConverter.ToUInt32(data), []));
                    data = data[4..];
                    break;
                default:
                    throw new InvalidDataException($"wire type {tag & 7} of field {field}");
            }
        }
    }

    public IEnumerable<int> Fields => _fields.Select(f => f.Field);

    public long Integer(int field) => (long)_fields.Single(f => f.Field == field).Number;

    public long[] Integers(int field) => [.. _fields.Where(f => f.Field == field).Select(f => (long)f.Number)];

    public float Single(int field) => BitConverter.UInt32BitsToSingle((uint)_fields.Single(f => f.Field == field).Number);

    public byte[]? Bytes(int field) => _fields.Where(f => f.Field == field).Select(f => f.Bytes).SingleOrDefault();

    public string Text(int field) => Bytes(field) is { } bytes ? Encoding.UTF8.GetString(bytes) : "";

    public string[] Texts(int field) => [.. _fields.Where(f => f.Field == field).Select(f => Encoding.UTF8.GetString(f.Bytes))];

    public ProtobufMessage Message(int field) => new(Bytes(field)!);

    public IEnumerable<ProtobufMessage> Messages(int field) => _fields.Where(f => f.Field == field).Select(f => new ProtobufMessage(f.Bytes));

    public IReadOnlyDictionary<string, string> Entries(int field) => Messages(field).ToDictionary(entry => entry.Text(1), entry => entry.Text(2));

    private static ulong Varint(ref ReadOnlySpan<byte> data)
    {
        ulong value = 0;
        for (int shift = 0; ; shift += 7)
        {
            byte part = data[0];
            data = data[1..];
            value |= (ulong)(part & 0x7F) << shift;
            if (part < 0x80)
                return value;
            Assert.True(shift < 63, "a varint has at most ten bytes");
        }
    }
}
