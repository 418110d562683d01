using CudaMoE.Export;

namespace CudaMoE.Tests.Export;

/// <summary>
/// Runs a read graph node by node as the operators' specification says (operator sets 17 and ai.onnx.ml 3), in double precision: only a Cast rounds. It knows
/// the operators that exported models have, and no others.
/// </summary>
internal sealed class OnnxInterpreter
{
    private readonly OnnxModel _model;
    private readonly Dictionary<string, OnnxArray> _values;

    private OnnxInterpreter(OnnxModel model, IReadOnlyDictionary<string, OnnxArray> inputs)
    {
        _model = model;
        _values = new(model.Constants);
        Assert.Equal(model.Inputs.Select(i => i.Name).Order(), inputs.Keys.Order());
        foreach (OnnxSignature input in model.Inputs)
        {
            Assert.Equal(input.Type, inputs[input.Name].Type);
            _values.Add(input.Name, inputs[input.Name]);
        }
    }

    /// <summary>All values of the graph by name, outputs among them.</summary>
    public static IReadOnlyDictionary<string, OnnxArray> Run(OnnxModel model, IReadOnlyDictionary<string, OnnxArray> inputs)
    {
        OnnxInterpreter interpreter = new(model, inputs);
        foreach (OnnxNode node in model.Nodes)
        {
            OnnxArray[] results = interpreter.Evaluate(node, [.. node.Inputs.Select(name => interpreter._values[name])]);
            foreach ((string name, OnnxArray result) in node.Outputs.Zip(results))
                interpreter._values.Add(name, result);
        }

        foreach (OnnxSignature output in model.Outputs)
            Assert.Equal(output.Type, interpreter._values[output.Name].Type);
        return interpreter._values;
    }

    private OnnxArray[] Evaluate(OnnxNode node, OnnxArray[] x)
    {
        Assert.Contains(node.Domain, _model.OperatorSets.Keys);
        return node.Type switch
        {
            "Identity" => [x[0]],
            "Relu" => [x[0].Map(v => Math.Max(v, 0))],
            "LeakyRelu" => [x[0].Map(v => v < 0 ? v * node.Attributes["alpha"].Single(2) : v)],
            "Sigmoid" => [x[0].Map(v => 1 / (1 + Math.Exp(-v)))],
            "Tanh" => [x[0].Map(Math.Tanh)],
            "Erf" => [x[0].Map(Erf)],
            "Neg" => [x[0].Map(v => -v)],
            "Exp" => [x[0].Map(Math.Exp)],
            "Log" => [x[0].Map(Math.Log)],
            "Abs" => [x[0].Map(Math.Abs)],
            "Sign" => [x[0].Map(v => Math.Sign(v))],
            "Not" => [x[0].Map(v => 1 - v)],
            "IsNaN" => [new(OnnxType.Bool, x[0].Shape, [.. x[0].Values.Select(v => double.IsNaN(v) ? 1.0 : 0)])],
            "Add" => [Same(x, v => v[0] + v[1])],
            "Sub" => [Same(x, v => v[0] - v[1])],
            "Mul" => [Same(x, v => v[0] * v[1])],
            "Div" => [Same(x, v => v[0] / v[1])],
            "Max" => [Same(x, v => Math.Max(v[0], v[1]))],
            "Min" => [Same(x, v => Math.Min(v[0], v[1]))],
            "And" => [Same(x, v => v[0] * v[1])],
            "GreaterOrEqual" => [Compare(x, v => v[0] >= v[1])],
            "Less" => [Compare(x, v => v[0] < v[1])],
            "Where" => [OnnxArray.Broadcast(x[1].Type, v => v[0] != 0 ? v[1] : v[2], x)],
            "Cast" => [Cast(x[0], (OnnxType)node.Integer("to", 0))],
            "Shape" => [new(OnnxType.Int64, [x[0].Rank], [.. x[0].Shape.Select(size => (double)size)])],
            "ConstantOfShape" => [new(OnnxType.Float, x[0].ToIntegers(), new double[x[0].Values.Aggregate(1, (a, b) => a * (int)b)])],
            "Reshape" => [Reshape(x[0], x[1].ToIntegers())],
            "Unsqueeze" => [Unsqueeze(x[0], x[1].ToIntegers().Single())],
            "Concat" => [OnnxShapes.Concat(x, x[0].Axis(node.Integer("axis", 0)))],
            "Split" => OnnxShapes.Split(x[0], x[0].Axis(node.Integer("axis", 0)), node.Outputs.Length),
            "Slice" => [OnnxShapes.Slice(x[0], x[1].ToIntegers().Single(), x[2].ToIntegers().Single(), x[3].ToIntegers().Single())],
            "Transpose" => [OnnxShapes.Transpose(x[0], [.. node.Attributes["perm"].Integers(8).Select(axis => (int)axis)])],
            "Gather" => [OnnxShapes.Gather(x[0], x[1], x[0].Axis(node.Integer("axis", 0)))],
            "GatherElements" => [OnnxShapes.GatherElements(x[0], x[1], x[0].Axis(node.Integer("axis", 0)))],
            "ScatterElements" => [OnnxShapes.ScatterElements(x[0], x[1], x[2], x[0].Axis(node.Integer("axis", 0)))],
            "TopK" => OnnxShapes.TopK(x[0], x[1].ToIntegers().Single(), x[0].Axis(node.Integer("axis", -1))),
            "MatMul" => [OnnxProducts.MatMul(x[0], x[1])],
            "Gemm" => [OnnxProducts.Gemm(x, node.Integer("transB", 0) == 1)],
            "Softmax" => [AlongLast(x[0], node.Integer("axis", -1), Softmax)],
            "ReduceSum" => [Reduce(x[0], x[1].ToIntegers().Single(), node, values => values.Sum())],
            "ReduceLogSumExp" => [Reduce(x[0], (int)node.Attributes["axes"].Integers(8).Single(), node, LogSumExp)],
            "LayerNormalization" => [LayerNormalization(x, node)],
            "LabelEncoder" => [Encode(x[0], node)],
            _ => throw new NotSupportedException($"operator {node.Domain}.{node.Type}"),
        };
    }

    private static OnnxArray Same(OnnxArray[] x, Func<double[], double> function)
    {
        Assert.Single(x.Select(a => a.Type).Distinct());
        return OnnxArray.Broadcast(x[0].Type, function, x);
    }

    private static OnnxArray Compare(OnnxArray[] x, Func<double[], bool> function)
    {
        Assert.Single(x.Select(a => a.Type).Distinct());
        return OnnxArray.Broadcast(OnnxType.Bool, v => function(v) ? 1 : 0, x);
    }

    private static OnnxArray Cast(OnnxArray x, OnnxType type) =>
        new(type, x.Shape, [.. x.Values.Select(v => type == OnnxType.Float ? (float)v : type == OnnxType.Int64 ? Math.Truncate(v) : v)]);

    private static OnnxArray Reshape(OnnxArray x, int[] shape)
    {
        int[] filled = [.. shape.Select((size, axis) => size == 0 ? x.Shape[axis] : size)];
        return x.Reshaped(filled);
    }

    private static OnnxArray Unsqueeze(OnnxArray x, int axis)
    {
        List<int> shape = [.. x.Shape];
        shape.Insert(axis, 1);
        return x.Reshaped([.. shape]);
    }

    private static OnnxArray AlongLast(OnnxArray x, long axis, Func<double[], double[]> function)
    {
        Assert.Equal(x.Rank - 1, x.Axis(axis));
        int size = x.Shape[^1];
        return new(x.Type, x.Shape, [.. Enumerable.Range(0, x.Count / Math.Max(size, 1)).SelectMany(i => function(x.Values[(i * size)..((i + 1) * size)]))]);
    }

    private static OnnxArray Reduce(OnnxArray x, int axis, OnnxNode node, Func<double[], double> function)
    {
        Assert.Equal(1, node.Integer("keepdims", 1));
        axis = x.Axis(axis);
        (int outer, int size, int inner) = x.Around(axis);
        double[] result = new double[outer * inner];
        for (int o = 0; o < outer; o++)
        {
            for (int i = 0; i < inner; i++)
                result[(o * inner) + i] = function([.. Enumerable.Range(0, size).Select(j => x.Values[(((o * size) + j) * inner) + i])]);
        }

        int[] shape = [.. x.Shape];
        shape[axis] = 1;
        return new(x.Type, shape, result);
    }

    private static double[] Softmax(double[] x)
    {
        double max = x.Max();
        double[] exponentials = [.. x.Select(v => Math.Exp(v - max))];
        double sum = exponentials.Sum();
        return [.. exponentials.Select(v => v / sum)];
    }

    private static double LogSumExp(double[] x)
    {
        double max = x.Max();
        return max + Math.Log(x.Sum(v => Math.Exp(v - max)));
    }

    private static OnnxArray LayerNormalization(OnnxArray[] x, OnnxNode node)
    {
        double epsilon = node.Attributes["epsilon"].Single(2);
        return AlongLast(x[0], node.Integer("axis", -1), row =>
        {
            double mean = row.Average();
            double deviation = Math.Sqrt(row.Average(v => (v - mean) * (v - mean)) + epsilon);
            return [.. row.Select((v, i) => ((v - mean) / deviation * x[1].Values[i]) + x[2].Values[i])];
        });
    }

    private static OnnxArray Encode(OnnxArray x, OnnxNode node)
    {
        Assert.Equal(OnnxGraph.TextDomain, node.Domain);
        string[] keys = node.Attributes["keys_strings"].Texts(9);
        long[] ids = node.Attributes["values_int64s"].Integers(8);
        Assert.Equal(keys.Length, ids.Length);
        Dictionary<string, long> table = keys.Zip(ids).ToDictionary(pair => pair.First, pair => pair.Second);
        long otherwise = node.Integer("default_int64", -1);
        return new(OnnxType.Int64, x.Shape, [.. x.Texts!.Select(text => (double)table.GetValueOrDefault(text, otherwise))]);
    }

    // Abramowitz and Stegun 7.1.5 (series) and 7.1.14 (continued fraction), accurate to 1e-13.
    private static double Erf(double x)
    {
        double a = Math.Abs(x);
        if (a < 3)
        {
            double term = a;
            double sum = a;
            for (int n = 1; n < 100; n++)
            {
                term *= -a * a / n;
                sum += term / ((2 * n) + 1);
            }

            return Math.Sign(x) * 2 / Math.Sqrt(Math.PI) * sum;
        }

        double fraction = a;
        for (int n = 100; n > 0; n--)
            fraction = a + (n / 2.0 / fraction);
        return Math.Sign(x) * (1 - (Math.Exp(-a * a) / Math.Sqrt(Math.PI) / fraction));
    }
}
