using System.Globalization;
using CudaMoE.Checkpoints;

namespace CudaMoE.Export;

/// <summary>
/// Writes a graph as an ONNX model (ModelProto). Tables are streamed: what is in memory is the graph without its constants. A protobuf message has at most
/// 2 GiB; a larger model has its large constants in a second file beside it, as the format's external data.
/// </summary>
internal static class OnnxFile
{
    /// <summary>The version of the file format.</summary>
    public const int IrVersion = 8;

    /// <summary>The version of the default operator set.</summary>
    public const int OperatorSet = 17;

    /// <summary>The version of the operator set <see cref="OnnxGraph.TextDomain"/>.</summary>
    public const int TextOperatorSet = 3;

    /// <summary>Most bytes of a protobuf message.</summary>
    public const long MessageLimit = int.MaxValue;

    /// <summary>What the second file's name has appended to the first one's.</summary>
    public const string DataSuffix = ".data";

    /// <summary>Constants of fewer bytes stay in the model file: shapes and axes must, so that run times can infer shapes.</summary>
    private const long LeastExternal = 1024;

    /// <summary>Where constants begin in the second file, so that they can be mapped into memory: at multiples of a page.</summary>
    private const long Alignment = 4096;

    /// <summary>Writes the model. Each file appears whole or not at all; a model is never beside the constants of another.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="path">The model file; the second file has <c>.data</c> appended to its name.</param>
    /// <param name="external">Whether there is a second file also where the model would fit in one.</param>
    /// <param name="limit">Most bytes of the model file.</param>
    /// <returns>The second file; null when there is none.</returns>
    /// <exception cref="ExportException">The model is too large even without its large constants.</exception>
    public static string? Save(OnnxGraph graph, string path, bool external, long limit = MessageLimit)
    {
        List<OnnxTensor> apart = [];
        Layout layout = new(graph, new Dictionary<string, External>());
        if (external || layout.Length > limit)
        {
            apart.AddRange(graph.Tensors.Where(tensor => tensor.ByteLength >= LeastExternal));
            layout = new(graph, Places(apart, Path.GetFileName(path) + DataSuffix));
            if (layout.Length > limit)
            {
                throw new ExportException(
                    $"the model takes {layout.Length} bytes without its weights, of which the vocabularies are the most; an ONNX file has at most {limit}; "
                    + "hash encoding has no vocabulary");
            }
        }

        string? data = apart.Count == 0 ? null : path + DataSuffix;
        if (data is not null)
            SaveApart(apart, data, beforeItAppears: () => File.Delete(path));
        AtomicFile.Write(path, layout.Write);
        return data;
    }

    private static Dictionary<string, External> Places(List<OnnxTensor> tensors, string file)
    {
        Dictionary<string, External> places = [];
        long offset = 0;
        foreach (OnnxTensor tensor in tensors)
        {
            places.Add(tensor.Name, new(file, offset, tensor.ByteLength));
            offset += Padded(tensor.ByteLength);
        }

        return places;
    }

    private static void SaveApart(List<OnnxTensor> tensors, string path, Action beforeItAppears) => AtomicFile.Write(path, stream =>
    {
        byte[] zeros = new byte[Alignment];
        foreach (OnnxTensor tensor in tensors)
        {
            tensor.Write(stream);
            stream.Write(zeros.AsSpan(0, (int)(Padded(tensor.ByteLength) - tensor.ByteLength)));
        }

        beforeItAppears();
    });

    private static long Padded(long bytes) => (bytes + Alignment - 1) / Alignment * Alignment;

    private sealed record External(string File, long Offset, long Length);

    /// <summary>The parts of a model file in order, with their lengths.</summary>
    private sealed class Layout
    {
        private readonly OnnxGraph _graph;
        private readonly ProtobufWriter _head = new();
        private readonly ProtobufWriter _graphHead = new();
        private readonly ProtobufWriter _graphTail = new();
        private readonly List<(byte[] Header, OnnxTensor? Inline)> _tensors = [];

        public Layout(OnnxGraph graph, IReadOnlyDictionary<string, External> external)
        {
            _graph = graph;
            long length = graph.Nodes.Length + _graphHead.Text(2, graph.Name).Length;
            foreach (OnnxTensor tensor in graph.Tensors)
            {
                External? place = external.GetValueOrDefault(tensor.Name);
                ProtobufWriter message = Tensor(tensor, place);
                long bytes = place is null ? tensor.ByteLength : 0;
                ProtobufWriter header = new ProtobufWriter().Header(5, message.Length + bytes);
                _tensors.Add(([.. header.Written, .. message.Written], place is null ? tensor : null));
                length += _tensors[^1].Header.Length + bytes;
            }

            foreach (OnnxValue input in graph.Inputs)
                _graphTail.Message(11, Value(input));
            foreach (OnnxValue output in graph.Outputs)
                _graphTail.Message(12, Value(output));
            length += _graphTail.Length;
            WriteHead(length);
            Length = _head.Length + length;
        }

        /// <summary>Bytes of the file.</summary>
        public long Length { get; }

        public void Write(Stream stream)
        {
            stream.Write(_head.Written);
            stream.Write(_graphHead.Written);
            stream.Write(_graph.Nodes.Written);
            foreach ((byte[] header, OnnxTensor? inline) in _tensors)
            {
                stream.Write(header);
                inline?.Write(stream);
            }

            stream.Write(_graphTail.Written);
        }

        /// <summary>All of ModelProto before the graph, which is its last field.</summary>
        private void WriteHead(long graphLength)
        {
            _head.Integer(1, IrVersion).Text(2, "CudaMoE").Text(3, typeof(OnnxFile).Assembly.GetName().Version!.ToString(3));
            _head.Message(8, new ProtobufWriter().Text(1, "").Integer(2, OperatorSet));
            foreach (string domain in _graph.Domains)
                _head.Message(8, new ProtobufWriter().Text(1, domain).Integer(2, TextOperatorSet));
            foreach ((string key, string value) in _graph.Metadata)
                _head.Message(14, new ProtobufWriter().Text(1, key).Text(2, value));
            _head.Header(7, graphLength);
        }

        /// <summary>TensorProto up to its bytes, which follow where <paramref name="external"/> is null.</summary>
        private static ProtobufWriter Tensor(OnnxTensor tensor, External? external)
        {
            const int externalLocation = 1;
            ProtobufWriter message = new();
            foreach (long size in tensor.Shape)
                message.Integer(1, size);
            message.Integer(2, (int)tensor.Type).Text(8, tensor.Name);
            if (external is null)
                return message.Header(9, tensor.ByteLength);
            Entry("location", external.File);
            Entry("offset", external.Offset.ToString(CultureInfo.InvariantCulture));
            Entry("length", external.Length.ToString(CultureInfo.InvariantCulture));
            return message.Integer(14, externalLocation);

            void Entry(string key, string value) => message.Message(13, new ProtobufWriter().Text(1, key).Text(2, value));
        }

        private static ProtobufWriter Value(OnnxValue value)
        {
            ProtobufWriter shape = new();
            foreach (OnnxDimension dimension in value.Shape)
                shape.Message(1, dimension.Name is { } name ? new ProtobufWriter().Text(2, name) : new ProtobufWriter().Integer(1, dimension.Size));
            ProtobufWriter tensor = new ProtobufWriter().Integer(1, (int)value.Type).Message(2, shape);
            return new ProtobufWriter().Text(1, value.Name).Message(2, new ProtobufWriter().Message(1, tensor));
        }
    }
}
