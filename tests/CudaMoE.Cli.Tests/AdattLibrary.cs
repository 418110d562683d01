using CudaMoE.Description;

namespace CudaMoE.Cli.Tests;

/// <summary>
/// The models of AdaTT's library (facebookresearch/AdaTT, mtl_lib.py) with random tensors in its own names and shapes, and their forward pass as that file
/// states it, sample by sample in double precision.
/// </summary>
internal sealed class AdattLibrary
{
    private readonly ArchitectureDescription _architecture;
    private readonly int _tasks;
    private readonly int _own;
    private readonly int _shared;
    private readonly IReadOnlyList<IReadOnlyList<int>> _levels;
    private readonly Random _random;

    public AdattLibrary(string architecture, int tasks, int inputs, Random random)
    {
        _architecture = DescriptionJson.Parse($$"""
            { "name": "a", "features": [{ "name": "x", "type": "dense" }], "tasks": [{{string.Join(", ", Enumerable.Range(0, tasks).Select(t => $"{{ \"name\": \"t{t}\", \"type\": \"binary\" }}"))}}], "architecture": { {{architecture}} } }
            """).Architecture;
        _tasks = tasks;
        _random = random;
        ExpertsDescription experts = _architecture.Experts ?? new();
        _own = experts.PerTask ?? 1;
        _shared = experts.Shared ?? 0;
        _levels = experts.Levels.Count > 0 ? experts.Levels : [experts.Layers];
        int width = _architecture.Type == ModelType.SharedBottom ? Mlp("mtl_arch.bottom_projection", inputs, _architecture.Bottom) : AddLevels(inputs);
        for (int t = 0; t < tasks; t++)
        {
            int hidden = Mlp($"task_modules.{t}.0", width, _architecture.Tower);
            Linear($"task_modules.{t}.1", hidden, 1);
        }
    }

    public Dictionary<string, (long[] Shape, float[] Values)> Tensors { get; } = [];

    private bool Extracts => _architecture.Type is ModelType.Ple or ModelType.Cgc;

    private bool Mixes => _architecture.Type is ModelType.Mmoe or ModelType.MlMmoe;

    private int Experts => Mixes ? _architecture.Experts!.Count!.Value : (_tasks * _own) + _shared;

    /// <summary>Logit of each task.</summary>
    public double[] Forward(double[] x)
    {
        double[][] inputs = _architecture.Type switch
        {
            ModelType.SharedBottom => [.. Enumerable.Repeat(Run("mtl_arch.bottom_projection", _architecture.Bottom.Count, x), _tasks)],
            _ => Mixes ? [.. Enumerable.Repeat(x, Experts)] : [.. Enumerable.Repeat(x, _tasks + 1)],
        };
        for (int level = 0; _architecture.Type != ModelType.SharedBottom && level < _levels.Count; level++)
            inputs = Level(level, inputs, x);
        return [.. Enumerable.Range(0, _tasks).Select(t => Layer($"task_modules.{t}.1", Run($"task_modules.{t}.0", _architecture.Tower.Count, inputs[t]))[0])];
    }

    private double[][] Level(int level, double[][] inputs, double[] x)
    {
        bool last = level == _levels.Count - 1;
        double[][] outputs = [.. Enumerable.Range(0, Experts).Select(e => Run($"mtl_arch.experts.{level}.{e}", _levels[level].Count, inputs[Mixes ? e : Unit(e)]))];
        if (_architecture.Type == ModelType.CrossStitch)
            return [.. Enumerable.Range(0, _tasks).Select(t => Sum(Enumerable.Range(0, _tasks).Select(k => (At($"mtl_arch.stitchs.{level}.weight", (t * _tasks) + k), outputs[k]))))];
        int gates = last ? _tasks : Mixes ? Experts : _tasks + (_shared > 0 ? 1 : 0);
        double[][] next = new double[gates][];
        for (int g = 0; g < gates; g++)
        {
            string name = Mixes ? $"mtl_arch.gates.{level}.{g}.1" : $"mtl_arch.gate_weights.{level}.{g}.0";
            double[] logits = Layer(name, Mixes ? x : inputs[g]);
            double[] weights = [.. logits.Select(z => Math.Exp(z) / logits.Sum(Math.Exp))];
            int[] seen = [.. Enumerable.Range(0, Experts).Where(e => !Extracts || g == _tasks || Unit(e) == g || Unit(e) == _tasks)];
            next[g] = Sum(seen.Select((e, i) => (weights[i] + Residual(level, g, e), outputs[e])));
        }

        return next;
    }

    private int Unit(int expert) => Math.Min(expert / _own, _tasks);

    private double Residual(int level, int unit, int expert)
    {
        if (_architecture.Type != ModelType.Adatt || Unit(expert) != unit || _architecture.Experts!.Native == NativeResidual.None)
            return 0;
        int own = expert - (unit * _own);
        if (_shared == 0)
            return _own == 1 ? 1 : At($"mtl_arch.self_exp_weights.{level}", (unit * _own) + own);
        return _own == 1 && _shared == 1 ? 1 : At($"mtl_arch.self_exp_weights.{unit}", (level * (unit == _tasks ? _shared : _own)) + own);
    }

    private int AddLevels(int inputs)
    {
        int width = inputs;
        for (int level = 0; level < _levels.Count; level++)
        {
            bool last = level == _levels.Count - 1;
            for (int e = 0; e < Experts; e++)
                Mlp($"mtl_arch.experts.{level}.{e}", width, _levels[level]);
            if (_architecture.Type == ModelType.CrossStitch)
                Add($"mtl_arch.stitchs.{level}.weight", _tasks, _tasks);
            int gates = _architecture.Type == ModelType.CrossStitch ? 0 : last ? _tasks : Mixes ? Experts : _tasks + (_shared > 0 ? 1 : 0);
            for (int g = 0; g < gates; g++)
                Linear(Mixes ? $"mtl_arch.gates.{level}.{g}.1" : $"mtl_arch.gate_weights.{level}.{g}.0", Mixes ? inputs : width, Extracts && g < _tasks ? _own + _shared : Experts);
            width = _levels[level][^1];
        }

        AddResiduals();
        return width;
    }

    private void AddResiduals()
    {
        if (_architecture.Type != ModelType.Adatt || _architecture.Experts!.Native == NativeResidual.None)
            return;
        for (int level = 0; _shared == 0 && _own > 1 && level < _levels.Count; level++)
            Add($"mtl_arch.self_exp_weights.{level}", _tasks, _own);
        for (int unit = 0; _shared > 0 && (_own > 1 || _shared > 1) && unit <= _tasks; unit++)
            Add($"mtl_arch.self_exp_weights.{unit}", unit == _tasks ? _levels.Count - 1 : _levels.Count, unit == _tasks ? _shared : _own);
    }

    private int Mlp(string name, int inputs, IReadOnlyList<int> widths)
    {
        for (int i = 0; i < widths.Count; i++)
        {
            Linear($"{name}.mlp_net.{2 * i}", inputs, widths[i]);
            inputs = widths[i];
        }

        return inputs;
    }

    private void Linear(string name, int inputs, int outputs)
    {
        Add($"{name}.weight", outputs, inputs);
        Add($"{name}.bias", outputs);
    }

    private void Add(string name, params long[] shape) =>
        Tensors.Add(name, (shape, [.. Enumerable.Range(0, (int)shape.Aggregate(1L, (a, b) => a * b)).Select(_ => (float)(_random.NextDouble() - 0.5))]));

    private double At(string name, int index) => Tensors[name].Values[index];

    private double[] Run(string name, int layers, double[] x)
    {
        for (int i = 0; i < layers; i++)
            x = [.. Layer($"{name}.mlp_net.{2 * i}", x).Select(v => Math.Max(v, 0))];
        return x;
    }

    private double[] Layer(string name, double[] x)
    {
        float[] weight = Tensors[$"{name}.weight"].Values;
        return [.. Tensors[$"{name}.bias"].Values.Select((b, i) => b + x.Select((v, j) => v * weight[(i * x.Length) + j]).Sum())];
    }

    private static double[] Sum(IEnumerable<(double Weight, double[] Vector)> terms) =>
        terms.Select(t => t.Vector.Select(v => v * t.Weight).ToArray()).Aggregate((a, b) => [.. a.Zip(b, (p, q) => p + q)]);
}
