using System.Text;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Streaming.Xsmoe;

namespace CudaMoE.Streaming;

/// <summary>
/// What happens to a mixture between two windows (XSMoE, section 3.4 of its code's account): first the least used expert is removed if its share of the
/// experts' utilisation is below the threshold, then
/// a new one comes whose weights are the mean of those that are left, and the older ones are frozen.
/// </summary>
internal static class ExpertGrowth
{
    /// <summary>The expert to remove, or -1: the least used one, the first of equals, if its share is below the threshold. A mixture's only expert
    /// stays.</summary>
    /// <param name="utilization">U of the encoder's entry and of each expert.</param>
    /// <param name="threshold">The least share that stays.</param>
    public static int ToPrune(ReadOnlySpan<double> utilization, double threshold)
    {
        ReadOnlySpan<double> experts = utilization[1..];
        double sum = 0;
        int least = 0;
        for (int k = 0; k < experts.Length; k++)
        {
            sum += experts[k];
            if (experts[k] < experts[least])
                least = k;
        }

        return experts.Length > 1 && sum > 0 && experts[least] / sum < threshold ? least : -1;
    }

    /// <summary>Changes the weights of all mixtures and answers the new numbers of experts.</summary>
    /// <param name="sides">The ladders as they were.</param>
    /// <param name="adapter">Width of an expert's bottleneck.</param>
    /// <param name="weights">All parameters by name; entries of mixtures are replaced.</param>
    /// <param name="utilization">U for each side, layer and entry.</param>
    /// <param name="growth">The options.</param>
    /// <param name="seed">Seed of new router rows.</param>
    /// <param name="window">The window that ended, from 1; separates the draws.</param>
    public static IReadOnlyList<SideShape> Apply(
        IReadOnlyList<SideShape> sides, int adapter, Dictionary<string, float[]> weights, double[][][] utilization, GrowthDescription growth, ulong seed, int window) =>
        [
            .. sides.Select((side, s) => side with
            {
                Layers =
                [
                    .. side.Layers.Select((experts, j) =>
                        Change(new(weights, $"{side.Name}.layers.{j}", side.Width, adapter), experts, utilization[s][j], growth, seed, window)),
                ],
            }),
        ];

    private static SideExperts Change(Mixture mixture, SideExperts experts, double[] utilization, GrowthDescription growth, ulong seed, int window)
    {
        int pruned = growth.Prune ? ToPrune(utilization, growth.PruneThreshold) : -1;
        if (pruned >= 0)
        {
            mixture.Remove(pruned, experts.Count);
            experts = new(experts.Count - 1, experts.Frozen - (pruned < experts.Frozen ? 1 : 0));
        }

        if (!growth.Expand)
            return experts;
        if (experts.Count == XsmoeShape.MaxExperts)
            throw new DescriptionException("growth", $"would give a mixture more than {XsmoeShape.MaxExperts} experts, the most that are supported; prune, or raise growth.prune_threshold");
        mixture.Add(experts.Count, growth.RouterStart, seed, window);
        return new(experts.Count + 1, growth.Freeze ? experts.Count : 0);
    }

    /// <summary>The weights of one mixture among all.</summary>
    private sealed class Mixture(Dictionary<string, float[]> weights, string name, int width, int adapter)
    {
        private string Router => $"{name}.router.weight";

        public void Remove(int expert, int count)
        {
            foreach (string part in (string[])["down", "up"])
            {
                for (int k = expert; k + 1 < count; k++)
                    weights[Key(k, part)] = weights[Key(k + 1, part)];
                weights.Remove(Key(count - 1, part));
            }

            float[] rows = weights[Router];
            weights[Router] = [.. rows.AsSpan(0, (expert + 1) * width), .. rows.AsSpan((expert + 2) * width)];
        }

        public void Add(int count, RouterStart start, ulong seed, int window)
        {
            foreach (string part in (string[])["down", "up"])
                weights[Key(count, part)] = Mean([.. Enumerable.Range(0, count).Select(k => weights[Key(k, part)])], adapter * width);
            float[] rows = weights[Router];
            float[] row = start == RouterStart.Mean
                ? Mean([.. Enumerable.Range(1, count).Select(k => rows[(k * width)..((k + 1) * width)])], width)
                : InitialWeights.Uniform(width, width, seed, $"{Router}/{window}");
            weights[Router] = [.. rows, .. row];
        }

        private static float[] Mean(float[][] values, int length)
        {
            float[] mean = new float[length];
            for (int i = 0; i < length; i++)
            {
                double sum = 0;
                foreach (float[] each in values)
                    sum += each[i];
                mean[i] = (float)(sum / values.Length);
            }

            return mean;
        }

        private string Key(int expert, string part) => $"{name}.experts.{expert}.{part}";
    }
}

/// <summary>
/// First values: experts normal of deviation 0.01, so that they begin near the identity; routers and the fusion layer uniform in +-1/sqrt(fan in); the
/// user encoder's matrices and positions Xavier-normal,
/// its biases 0, its norms 1. Each parameter has a random stream of its own, keyed by seed and name.
/// </summary>
internal static class InitialWeights
{
    /// <summary>Values of all parameters of a shape.</summary>
    public static Dictionary<string, float[]> Draw(IReadOnlyList<Layers.Parameter> parameters, ulong seed)
    {
        Dictionary<string, float[]> weights = [];
        foreach (Layers.Parameter parameter in parameters)
        {
            int count = checked((int)parameter.Count);
            string name = parameter.Name;
            weights[name] = name switch
            {
                _ when name.Contains(".experts.", StringComparison.Ordinal) => Normal(count, 0.01, seed, name),
                _ when name.Contains(".router.", StringComparison.Ordinal) => Uniform(count, parameter.Shape[^1], seed, name),
                "fusion.weight" => Uniform(count, parameter.Shape[^1], seed, name),
                "fusion.bias" => Uniform(count, parameters.First(p => p.Name == "fusion.weight").Shape[^1], seed, name),
                _ when parameter.Kind == Layers.ParameterKind.Norm => [.. Enumerable.Repeat(1f, count)],
                _ when parameter.Shape.Count == 2 => Normal(count, Math.Sqrt(2.0 / (parameter.Shape[0] + parameter.Shape[1])), seed, name),
                _ => new float[count],
            };
        }

        return weights;
    }

    /// <summary>Uniform in +-1/sqrt(fan in).</summary>
    public static float[] Uniform(int count, long fanIn, ulong seed, string name)
    {
        float[] values = new float[count];
        double bound = 1 / Math.Sqrt(fanIn);
        ulong key = XxHash64.Hash(Encoding.UTF8.GetBytes(name), seed);
        Balancing.StepRandom random = new(key, 0);
        for (int i = 0; i < count; i++)
            values[i] = (float)(((2 * random.Uniform()) - 1) * bound);
        return values;
    }

    private static float[] Normal(int count, double deviation, ulong seed, string name)
    {
        KeyedNormals normals = new(XxHash64.Hash(Encoding.UTF8.GetBytes(name), seed));
        float[] values = new float[count];
        for (int i = 0; i < count; i++)
            values[i] = (float)(deviation * normals.Next());
        return values;
    }
}
