using System.Globalization;
using System.Runtime.InteropServices;

namespace OnnxRuntimePeer;

/// <summary>A graph in the ONNX format (field numbers of onnx.proto), built node by node; every node gives one value unless it says otherwise.</summary>
internal sealed class OnnxGraph
{
    private const int FloatType = 1;
    private const int Int32Type = 6;
    private const int Int64Type = 7;
    private readonly ProtobufWriter _graph = new();
    private int _values;

    public OnnxGraph(string name) => _graph.Text(2, name);

    /// <summary>Adds an operator with one output and returns the output's name.</summary>
    public string Add(string type, string[] inputs, params (string Name, object Value)[] attributes) => Add(type, 1, inputs, attributes)[0];

    /// <summary>Adds an operator with several outputs.</summary>
    public string[] Add(string type, int outputs, string[] inputs, params (string Name, object Value)[] attributes)
    {
        string[] names = [.. Enumerable.Range(0, outputs).Select(_ => NewName())];
        Node(type, inputs, names, attributes);
        return names;
    }

    /// <summary>A constant of f32 numbers; without sizes a scalar.</summary>
    public string Numbers(ReadOnlySpan<float> values, params long[] shape) => Constant(FloatType, MemoryMarshal.AsBytes(values), shape);

    /// <summary>A constant of 64-bit integers: shapes, axes, sizes.</summary>
    public string Integers(params long[] values) => Constant(Int64Type, MemoryMarshal.AsBytes<long>(values), values.Length);

    /// <summary>An input of f32 numbers, [rows, width].</summary>
    public void FloatInput(string name, long width) => _graph.Message(11, Value(name, FloatType, width));

    /// <summary>An input of 32-bit integers, [rows, width].</summary>
    public void IntegerInput(string name, long width) => _graph.Message(11, Value(name, Int32Type, width));

    /// <summary>Names <paramref name="value"/> as the output, [rows, width].</summary>
    public void Output(string value, string name, long width)
    {
        Node("Identity", [value], [name], []);
        _graph.Message(12, Value(name, FloatType, width));
    }

    /// <summary>Writes the model file.</summary>
    public void Save(string path)
    {
        const long irVersion = 8;
        const long operatorSet = 17;
        ProtobufWriter model = new ProtobufWriter().Integer(1, irVersion).Message(8, new ProtobufWriter().Text(1, "").Integer(2, operatorSet)).Message(7, _graph);
        using FileStream file = File.Create(path);
        file.Write(model.Written);
    }

    private string NewName() => "v" + (_values++).ToString(CultureInfo.InvariantCulture);

    private void Node(string type, string[] inputs, string[] outputs, (string Name, object Value)[] attributes)
    {
        ProtobufWriter node = new();
        foreach (string input in inputs)
            node.Text(1, input);
        foreach (string output in outputs)
            node.Text(2, output);
        node.Text(3, outputs[0] + "." + type).Text(4, type);
        foreach ((string name, object value) in attributes)
        {
            ProtobufWriter attribute = new ProtobufWriter().Text(1, name);
            _ = value switch
            {
                float number => attribute.Single(2, number).Integer(20, 1),
                int number => attribute.Integer(3, number).Integer(20, 2),
                long[] numbers => numbers.Aggregate(attribute, (a, n) => a.Integer(8, n)).Integer(20, 7),
                _ => throw new ArgumentException($"attribute {name} has the type {value.GetType()}", nameof(attributes)),
            };
            node.Message(5, attribute);
        }

        _graph.Message(1, node);
    }

    private string Constant(int type, ReadOnlySpan<byte> values, params ReadOnlySpan<long> shape)
    {
        ProtobufWriter tensor = new();
        foreach (long size in shape)
            tensor.Integer(1, size);
        string name = NewName();
        _graph.Message(5, tensor.Integer(2, type).Text(8, name).Bytes(9, values));
        return name;
    }

    private static ProtobufWriter Value(string name, int type, long width)
    {
        ProtobufWriter shape = new ProtobufWriter()
            .Message(1, new ProtobufWriter().Text(2, "rows"))
            .Message(1, new ProtobufWriter().Integer(1, width));
        ProtobufWriter tensor = new ProtobufWriter().Integer(1, type).Message(2, shape);
        return new ProtobufWriter().Text(1, name).Message(2, new ProtobufWriter().Message(1, tensor));
    }
}
