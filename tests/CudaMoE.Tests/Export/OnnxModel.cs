using System.Runtime.InteropServices;
using CudaMoE.Export;

namespace CudaMoE.Tests.Export;

/// <summary>A node of a read graph.</summary>
internal sealed record OnnxNode(string Name, string Type, string Domain, string[] Inputs, string[] Outputs, IReadOnlyDictionary<string, ProtobufMessage> Attributes)
{
    public long Integer(string attribute, long otherwise) => Attributes.TryGetValue(attribute, out ProtobufMessage? value) ? value.Integer(3) : otherwise;
}

/// <summary>An input or output of a read graph; a free size is its name.</summary>
internal sealed record OnnxSignature(string Name, OnnxType Type, string[] Shape);

/// <summary>An ONNX file, read by the field numbers of onnx.proto.</summary>
internal sealed class OnnxModel
{
    public OnnxModel(string path)
    {
        Message = new(File.ReadAllBytes(path));
        ProtobufMessage graph = Message.Message(7);
        GraphName = graph.Text(2);
        Metadata = Message.Entries(14);
        OperatorSets = Message.Messages(8).ToDictionary(set => set.Text(1), set => set.Integer(2));
        Nodes = [.. graph.Messages(1).Select(ReadNode)];
        Inputs = [.. graph.Messages(11).Select(ReadSignature)];
        Outputs = [.. graph.Messages(12).Select(ReadSignature)];
        foreach (ProtobufMessage tensor in graph.Messages(5))
            Constants.Add(tensor.Text(8), ReadTensor(tensor, Path.GetDirectoryName(path)!));
    }

    public ProtobufMessage Message { get; }

    public string GraphName { get; }

    public IReadOnlyDictionary<string, string> Metadata { get; }

    public IReadOnlyDictionary<string, long> OperatorSets { get; }

    public IReadOnlyList<OnnxNode> Nodes { get; }

    public IReadOnlyList<OnnxSignature> Inputs { get; }

    public IReadOnlyList<OnnxSignature> Outputs { get; }

    public Dictionary<string, OnnxArray> Constants { get; } = [];

    /// <summary>Constants in the second file, with their places in it.</summary>
    public Dictionary<string, (long Offset, long Length)> External { get; } = [];

    private static OnnxNode ReadNode(ProtobufMessage node) =>
        new(node.Text(3), node.Text(4), node.Text(7), node.Texts(1), node.Texts(2), node.Messages(5).ToDictionary(attribute => attribute.Text(1)));

    private static OnnxSignature ReadSignature(ProtobufMessage value)
    {
        ProtobufMessage tensor = value.Message(2).Message(1);
        return new(value.Text(1), (OnnxType)tensor.Integer(1), [.. tensor.Message(2).Messages(1).Select(d => d.Bytes(2) is null ? $"{d.Integer(1)}" : d.Text(2))]);
    }

    private OnnxArray ReadTensor(ProtobufMessage tensor, string folder)
    {
        int[] shape = [.. tensor.Integers(1).Select(size => (int)size)];
        OnnxType type = (OnnxType)tensor.Integer(2);
        byte[] bytes = tensor.Bytes(9) ?? ReadExternal(tensor, folder);
        double[] values = type switch
        {
            OnnxType.Float => [.. MemoryMarshal.Cast<byte, float>(bytes).ToArray().Select(v => (double)v)],
            OnnxType.Double => MemoryMarshal.Cast<byte, double>(bytes).ToArray(),
            OnnxType.Int64 => [.. MemoryMarshal.Cast<byte, long>(bytes).ToArray().Select(v => (double)v)],
            OnnxType.Int32 => [.. MemoryMarshal.Cast<byte, int>(bytes).ToArray().Select(v => (double)v)],
            OnnxType.Bool => [.. bytes.Select(v => (double)v)],
            _ => throw new InvalidDataException($"a constant of type {type}"),
        };
        return new(type, shape, values);
    }

    private byte[] ReadExternal(ProtobufMessage tensor, string folder)
    {
        const int externalLocation = 1;
        Assert.Equal(externalLocation, tensor.Integer(14));
        IReadOnlyDictionary<string, string> place = tensor.Entries(13);
        long offset = long.Parse(place["offset"], System.Globalization.CultureInfo.InvariantCulture);
        long length = long.Parse(place["length"], System.Globalization.CultureInfo.InvariantCulture);
        External.Add(tensor.Text(8), (offset, length));
        using FileStream file = File.OpenRead(Path.Combine(folder, place["location"]));
        file.Position = offset;
        byte[] bytes = new byte[length];
        file.ReadExactly(bytes);
        return bytes;
    }
}
