using CudaMoE.Description;

namespace CudaMoE.Tests.Models;

/// <summary>
/// AdaTT, PLE, CGC, multi-level MMoE and cross-stitch networks as their equations say: one sample, one unit after the other, in double precision.
/// </summary>
/// <param name="architecture">The model.</param>
/// <param name="tasks">Number of tasks.</param>
/// <param name="parameters">The parameters' values by name.</param>
/// <param name="expert">The output of a level's expert on an input.</param>
internal sealed class FusionReference(
    ArchitectureDescription architecture,
    int tasks,
    IReadOnlyDictionary<string, double[]> parameters,
    Func<int, int, double[], double[]> expert)
{
    private readonly int _levels = architecture.Type == ModelType.Cgc ? 1 : architecture.Experts!.Levels.Count;
    private readonly int _own = architecture.Experts!.PerTask ?? 1;
    private readonly int _shared = architecture.Experts!.Shared ?? 0;

    /// <summary>What each tower reads; one row when all read the same.</summary>
    public double[][] Representations(double[] x) => architecture.Type switch
    {
        ModelType.Adatt or ModelType.Ple or ModelType.Cgc => Units(x),
        ModelType.MlMmoe => Mixtures(x),
        ModelType.CrossStitch => Stitched(x),
        _ => throw new ArgumentException($"{architecture.Type}"),
    };

    private static double[] Softmax(double[] z)
    {
        double max = z.Max();
        double sum = z.Sum(v => Math.Exp(v - max));
        return [.. z.Select(v => Math.Exp(v - max) / sum)];
    }

    private static double[] Sum(IEnumerable<(double Weight, double[] Vector)> terms) =>
        terms.Select(t => t.Vector.Select(v => v * t.Weight).ToArray()).Aggregate((a, b) => [.. a.Zip(b, (p, q) => p + q)]);

    private double[][] Units(double[] x)
    {
        int units = tasks + (_shared > 0 ? 1 : 0);
        int count = (tasks * _own) + _shared;
        double[][] f = [.. Enumerable.Repeat(x, units)];
        for (int level = 0; level < _levels; level++)
        {
            double[][] outputs = [.. Enumerable.Range(0, count).Select(e => expert(level, e, f[UnitOf(e)]))];
            int fused = level == _levels - 1 ? tasks : units;
            double[][] next = new double[fused][];
            int row = 0;
            for (int unit = 0; unit < fused; unit++)
            {
                int[] visible = [.. Enumerable.Range(0, count).Where(e => architecture.Type == ModelType.Adatt || unit == tasks || UnitOf(e) == unit || UnitOf(e) == tasks)];
                double[] gate = Gate(level, ref row, visible.Length, architecture.Gate.Input == GateInput.Trunk ? x : f[unit]);
                next[unit] = Sum(visible.Select((e, i) => (gate[i] + Native(level, unit, e), outputs[e])));
            }

            f = next;
        }

        return f;
    }

    private int UnitOf(int e) => Math.Min(e / _own, tasks);

    /// <summary>The weight of an own expert beside the gate.</summary>
    private double Native(int level, int unit, int e)
    {
        if (architecture.Type != ModelType.Adatt || UnitOf(e) != unit)
            return 0;
        bool single = _own == 1 && _shared <= 1;
        NativeResidual kind = architecture.Experts!.Native;
        if (kind == NativeResidual.None)
            return 0;
        if (kind == NativeResidual.Unit || (kind == NativeResidual.Auto && single))
            return 1;
        return unit < tasks ? parameters[$"levels.{level}.native.weight"][e] : parameters[$"levels.{level}.native_shared.weight"][e - (tasks * _own)];
    }

    private double[][] Mixtures(double[] x)
    {
        int count = architecture.Experts!.Count!.Value;
        double[][] u = [.. Enumerable.Repeat(x, count)];
        for (int level = 0; level < _levels; level++)
        {
            double[][] outputs = [.. u.Select((input, e) => expert(level, e, input))];
            int mixtures = level < _levels - 1 ? count : architecture.Gate.Sharing == GateSharing.Shared ? 1 : tasks;
            int row = 0;
            double[][] next = new double[mixtures][];
            for (int g = 0; g < mixtures; g++)
            {
                double[] gate = Gate(level, ref row, count, x);
                next[g] = Sum(gate.Zip(outputs));
            }

            u = next;
        }

        return u;
    }

    private double[][] Stitched(double[] x)
    {
        double[][] f = [.. Enumerable.Repeat(x, tasks)];
        for (int level = 0; level < _levels; level++)
        {
            double[][] outputs = [.. f.Select((input, t) => expert(level, t, input))];
            double[] stitch = parameters[$"levels.{level}.stitch.weight"];
            f = [.. Enumerable.Range(0, tasks).Select(t => Sum(outputs.Select((o, k) => (stitch[(t * tasks) + k], o))))];
        }

        return f;
    }

    private double[] Gate(int level, ref int row, int count, double[] input)
    {
        double[] weight = parameters[$"levels.{level}.gate.weight"];
        double[]? bias = parameters.GetValueOrDefault($"levels.{level}.gate.bias");
        double[] logits = new double[count];
        for (int i = 0; i < count; i++, row++)
        {
            logits[i] = bias?[row] ?? 0;
            for (int j = 0; j < input.Length; j++)
                logits[i] += weight[(row * input.Length) + j] * input[j];
        }

        return Softmax(logits);
    }
}
