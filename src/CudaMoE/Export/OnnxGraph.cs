using System.Globalization;
using System.Runtime.InteropServices;

namespace CudaMoE.Export;

/// <summary>
/// A graph in the ONNX format, built node by node in the order of computation (field numbers of onnx.proto). Values have names; inputs and outputs those
/// that they are given, all others a path of the current <see cref="Scope"/> and the operator.
/// </summary>
internal sealed class OnnxGraph
{
    /// <summary>The operator set of the texts' operators beside the default one.</summary>
    public const string TextDomain = "ai.onnx.ml";

    private readonly HashSet<string> _names = [];
    private readonly HashSet<string> _domains = [];
    private readonly Dictionary<string, string> _constants = [];
    private readonly Dictionary<string, int> _numbered = [];
    private readonly List<OnnxTensor> _tensors = [];
    private readonly List<OnnxValue> _inputs = [];
    private readonly List<OnnxValue> _outputs = [];

    /// <param name="name">The graph's name.</param>
    public OnnxGraph(string name) => Name = name;

    /// <summary>Its name.</summary>
    public string Name { get; }

    /// <summary>Where nodes that are added now belong; part of their names only.</summary>
    public string Scope { get; set; } = "";

    /// <summary>The nodes, each as a field of GraphProto.</summary>
    public ProtobufWriter Nodes { get; } = new();

    public IReadOnlyList<OnnxTensor> Tensors => _tensors;

    public IReadOnlyList<OnnxValue> Inputs => _inputs;

    public IReadOnlyList<OnnxValue> Outputs => _outputs;

    /// <summary>Operator sets beside the default one that nodes are of.</summary>
    public IReadOnlyCollection<string> Domains => _domains;

    /// <summary>Texts that go with the model.</summary>
    public SortedDictionary<string, string> Metadata { get; } = new(StringComparer.Ordinal);

    /// <summary>Keeps a name for an input or output that follows.</summary>
    /// <returns>False when it is taken.</returns>
    public bool Claim(string name) => _names.Add(name);

    /// <summary>Adds an input of a claimed name and returns the name.</summary>
    public string Input(string name, OnnxType type, params OnnxDimension[] shape)
    {
        _inputs.Add(new(name, type, shape));
        return name;
    }

    /// <summary>Makes <paramref name="value"/> an output of a claimed name.</summary>
    public void Output(string value, string name, OnnxType type, params OnnxDimension[] shape)
    {
        AddNode("Identity", "", [value], [name], []);
        _outputs.Add(new(name, type, shape));
    }

    /// <summary>Adds an operator with one output and returns the output's name.</summary>
    public string Add(string type, string[] inputs, params (string Name, object Value)[] attributes) => AddMany(type, 1, inputs, attributes)[0];

    /// <summary>Adds an operator with several outputs.</summary>
    public string[] AddMany(string type, int outputs, string[] inputs, params (string Name, object Value)[] attributes)
    {
        string[] names = [.. Enumerable.Range(0, outputs).Select(_ => NewName(type))];
        AddNode(type, "", inputs, names, attributes);
        return names;
    }

    /// <summary>Adds an operator of <see cref="TextDomain"/>.</summary>
    public string AddText(string type, string input, params (string Name, object Value)[] attributes)
    {
        string name = NewName(type);
        AddNode(type, TextDomain, [input], [name], attributes);
        _domains.Add(TextDomain);
        return name;
    }

    /// <summary>Adds a constant under its own name, once however often it is asked for.</summary>
    public string Tensor(OnnxTensor tensor)
    {
        if (_constants.TryGetValue(tensor.Name, out string? known))
            return known;
        string name = Unique(tensor.Name);
        _constants.Add(tensor.Name, name);
        _tensors.Add(tensor with { Name = name });
        return name;
    }

    /// <summary>A constant of f32 numbers; without sizes a scalar.</summary>
    public string Numbers(float[] values, params long[] shape) => Constant(OnnxType.Float, values, shape);

    /// <summary>A constant of f64 numbers; without sizes a scalar.</summary>
    public string Doubles(double[] values, params long[] shape) => Constant(OnnxType.Double, values, shape);

    /// <summary>A constant list of 64-bit integers: shapes, axes, sizes.</summary>
    public string Integers(params long[] values) => Constant(OnnxType.Int64, values, values.Length);

    /// <summary>A constant 64-bit integer without extents.</summary>
    public string Integer(long value) => Constant(OnnxType.Int64, [value]);

    /// <summary>A constant of truth values, 0 or 1.</summary>
    public string Truths(byte[] values, params long[] shape) => Constant(OnnxType.Bool, values, shape);

    private string Constant<T>(OnnxType type, T[] values, params long[] shape)
        where T : unmanaged
    {
        // Small constants are shared; they are found by what they hold.
        const int most = 64;
        string key = values.Length > most
            ? Unique("/constant")
            : $"/constant/{type}[{string.Join(',', shape)}]/{Convert.ToHexString(MemoryMarshal.AsBytes<T>(values))}";
        if (_constants.TryGetValue(key, out string? known))
            return known;
        string name = NewName("Constant");
        _constants.Add(key, name);
        _tensors.Add(OnnxTensor.Of(name, type, values, shape));
        return name;
    }

    private void AddNode(string type, string domain, string[] inputs, string[] outputs, (string Name, object Value)[] attributes)
    {
        ProtobufWriter node = new();
        foreach (string input in inputs)
            node.Text(1, input);
        foreach (string output in outputs)
            node.Text(2, output);
        node.Text(3, outputs[0] + ".node").Text(4, type);
        foreach ((string name, object value) in attributes)
            node.Message(5, Attribute(name, value));
        if (domain.Length > 0)
            node.Text(7, domain);
        Nodes.Message(1, node);
    }

    private static ProtobufWriter Attribute(string name, object value)
    {
        const int floatType = 1, integerType = 2, integersType = 7, textsType = 8;
        ProtobufWriter attribute = new ProtobufWriter().Text(1, name);
        switch (value)
        {
            case float number:
                return attribute.Single(2, number).Integer(20, floatType);
            case int number:
                return attribute.Integer(3, number).Integer(20, integerType);
            case long number:
                return attribute.Integer(3, number).Integer(20, integerType);
            case long[] numbers:
                foreach (long number in numbers)
                    attribute.Integer(8, number);
                return attribute.Integer(20, integersType);
            case string[] texts:
                foreach (string text in texts)
                    attribute.Text(9, text);
                return attribute.Integer(20, textsType);
            default:
                throw new ArgumentException($"attribute {name} has the type {value.GetType()}", nameof(value));
        }
    }

    private string NewName(string type) => Unique(Scope.Length == 0 ? $"/{type}" : $"/{Scope}/{type}");

    private string Unique(string wanted)
    {
        string name = wanted;
        int number = _numbered.GetValueOrDefault(wanted);
        while (!_names.Add(name))
            name = string.Create(CultureInfo.InvariantCulture, $"{wanted}_{++number}");
        _numbered[wanted] = number;
        return name;
    }
}
