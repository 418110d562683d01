using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Export;

/// <summary>
/// Numbers as files hold them, to what the model reads. The transforms are computed in f64 and rounded to f32 at the end, as the engine does, and for all
/// features at once: NaN becomes the training mean, <code>y = clamp((f(x) - shift) / scale, low, high)</code> with f the signed logarithm or nothing.
/// </summary>
internal sealed class NumberGraph(ExportContext context)
{
    private readonly OnnxGraph _graph = context.Graph;

    /// <summary>The columns of dense features and vectors in the order of the features, each value [rows, any width].</summary>
    /// <param name="names">The input of each feature.</param>
    public IEnumerable<string> Columns(string[] names)
    {
        List<int> dense = [.. Enumerable.Range(0, names.Length).Where(i => context.Encoders.Features[i] is { Table: null, Description.Type: FeatureType.Dense })];
        string? transformed = dense.Count == 0 ? null : Transformed(dense, names);
        // Runs of neighbouring dense features between vectors.
        int place = 0;
        int run = 0;
        for (int i = 0; i < names.Length; i++)
        {
            FittedFeature feature = context.Encoders.Features[i];
            if (feature.Table is not null)
                continue;
            if (feature.Description.Type == FeatureType.Dense)
            {
                run++;
                continue;
            }

            if (run > 0)
                yield return Slice(transformed!, place, run, dense.Count);
            place += run;
            run = 0;
            yield return names[i];
        }

        if (run > 0)
            yield return Slice(transformed!, place, run, dense.Count);
    }

    /// <summary>The bucket [rows, 1] that a number falls in: 1 + the number of boundaries that are not above it; 0 for NaN.</summary>
    public string Bucket(FittedFeature feature, string x)
    {
        string known = ToIntegers(_graph.Add("Not", [_graph.Add("IsNaN", [x])]));
        double[] boundaries = [.. feature.Boundaries!];
        if (boundaries.Length == 0)
            return known;
        string reached = ToIntegers(_graph.Add("GreaterOrEqual", [x, _graph.Doubles(boundaries, 1, boundaries.Length)]));
        return _graph.Add("Add", [known, _graph.Add("ReduceSum", [reached, _graph.Integers(1)], ("keepdims", 1))]);
    }

    private string Transformed(List<int> dense, string[] names)
    {
        FittedFeature[] features = [.. dense.Select(i => context.Encoders.Features[i])];
        Scaling[] scalings = [.. features.Select(Scaling.Of)];
        string x = dense.Count == 1 ? names[dense[0]] : _graph.Add("Concat", [.. dense.Select(i => names[i])], ("axis", 1));
        x = _graph.Add("Where", [_graph.Add("IsNaN", [x]), Row([.. features.Select(f => f.Statistics.Mean)]), x]);
        if (features.Any(f => f.Description.Transform == DenseTransform.Log))
            x = WithLogarithms(x, features);
        x = _graph.Add("Div", [_graph.Add("Sub", [x, Row([.. scalings.Select(s => s.Shift)])]), Row([.. scalings.Select(s => s.Scale)])]);
        if (scalings.Any(s => s.IsClamped))
            x = _graph.Add("Min", [_graph.Add("Max", [x, Row([.. scalings.Select(s => s.Low)])]), Row([.. scalings.Select(s => s.High)])]);
        return _graph.Add("Cast", [x], ("to", (int)OnnxType.Float));
    }

    /// <summary>sign(x) * log(1 + |x|) in the columns of transform log.</summary>
    private string WithLogarithms(string x, FittedFeature[] features)
    {
        string log = _graph.Add("Log", [_graph.Add("Add", [_graph.Add("Abs", [x]), _graph.Doubles([1])])]);
        log = _graph.Add("Mul", [_graph.Add("Sign", [x]), log]);
        if (features.All(f => f.Description.Transform == DenseTransform.Log))
            return log;
        byte[] chosen = [.. features.Select(f => (byte)(f.Description.Transform == DenseTransform.Log ? 1 : 0))];
        return _graph.Add("Where", [_graph.Truths(chosen, 1, chosen.Length), log, x]);
    }

    private string Row(double[] values) => _graph.Doubles(values, 1, values.Length);

    private string ToIntegers(string truths) => _graph.Add("Cast", [truths], ("to", (int)OnnxType.Int64));

    private string Slice(string x, int first, int count, int all) =>
        count == all ? x : _graph.Add("Slice", [x, _graph.Integers(first), _graph.Integers(first + count), _graph.Integers(1)]);

    /// <summary>A transform's numbers. A feature of one value only is 0.</summary>
    private readonly record struct Scaling(double Shift, double Scale, double Low, double High)
    {
        public bool IsClamped => !double.IsNegativeInfinity(Low) || !double.IsPositiveInfinity(High);

        public static Scaling Of(FittedFeature feature)
        {
            FeatureStatistics statistics = feature.Statistics;
            return feature.Description.Transform switch
            {
                DenseTransform.Standardize => Standardize(statistics.Mean, statistics.Deviation),
                DenseTransform.MinMax when statistics.Maximum > statistics.Minimum => new(statistics.Minimum, statistics.Maximum - statistics.Minimum, 0, 1),
                DenseTransform.MinMax => Zero,
                DenseTransform.Log => Standardize(feature.LogMean, feature.LogDeviation),
                _ => new(0, 1, double.NegativeInfinity, double.PositiveInfinity),
            };
        }

        private static Scaling Zero { get; } = new(0, 1, 0, 0);

        private static Scaling Standardize(double mean, double deviation) =>
            deviation == 0 ? Zero : new(mean, deviation, double.NegativeInfinity, double.PositiveInfinity);
    }
}
