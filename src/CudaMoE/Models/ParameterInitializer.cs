using System.Text;
using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Models;

/// <summary>
/// Initial values. Weights and biases of a layer: uniform in +-1/sqrt(fan in) (He et al.'s bound with a = sqrt(5), the default of the
/// reference implementations of these models). Mixing weights: uniform in +-1/sqrt(their number in a sum). Embedding rows: normal, deviation 0.01.
/// Every parameter has a random stream of its own, keyed by seed and name, so that adding one does not change the others.
/// </summary>
internal static class ParameterInitializer
{
    private const double EmbeddingDeviation = 0.01;

    /// <summary>Sets all parameters but those that their layers set themselves.</summary>
    public static void Initialize(IReadOnlyList<Parameter> parameters, DeviceStream stream, ulong seed)
    {
        Dictionary<string, long> fanIn = parameters
            .Where(p => p.Kind == ParameterKind.Weight)
            .ToDictionary(p => p.Name[..p.Name.LastIndexOf('.')], p => p.Shape[^1]);
        foreach (Parameter parameter in parameters)
        {
            SplitMix random = new(seed, parameter.Name);
            switch (parameter.Kind)
            {
                case ParameterKind.Embedding:
                    Fill(parameter, stream, () => (float)(random.Normal() * EmbeddingDeviation));
                    break;
                case ParameterKind.Weight or ParameterKind.Bias when fanIn.TryGetValue(parameter.Name[..parameter.Name.LastIndexOf('.')], out long width):
                    double bound = 1 / Math.Sqrt(width);
                    Fill(parameter, stream, () => (float)(((2 * random.Uniform()) - 1) * bound));
                    break;
                case ParameterKind.Mixing:
                    double reach = 1 / Math.Sqrt(parameter.Shape[^1]);
                    Fill(parameter, stream, () => (float)(((2 * random.Uniform()) - 1) * reach));
                    break;
                default:
                    break;
            }
        }
    }

    private static void Fill(Parameter parameter, DeviceStream stream, Func<float> draw)
    {
        const int block = 1 << 16;
        float[] values = new float[Math.Min(block, parameter.Count)];
        ushort[] halves = parameter.Type == ElementType.Bf16 ? new ushort[values.Length] : [];
        for (long start = 0; start < parameter.Count; start += block)
        {
            int count = (int)Math.Min(block, parameter.Count - start);
            for (int i = 0; i < count; i++)
                values[i] = draw();
            if (parameter.Type == ElementType.F32)
            {
                stream.CopyToDevice<float>(values.AsSpan(0, count), parameter.Value + (nint)(start * sizeof(float)));
                continue;
            }

            for (int i = 0; i < count; i++)
                halves[i] = BFloat16.FromSingle(values[i]);
            stream.CopyToDevice<ushort>(halves.AsSpan(0, count), parameter.Value + (nint)(start * sizeof(ushort)));
        }
    }

    /// <summary>splitmix64 (Steele et al. 2014), keyed by a seed and a name.</summary>
    private sealed class SplitMix
    {
        private ulong _state;

        public SplitMix(ulong seed, string name)
        {
            _state = seed;
            foreach (byte b in Encoding.UTF8.GetBytes(name))
                _state = Next() ^ b;
        }

        public double Uniform() => (Next() >> 11) * (1.0 / (1L << 53));

        public double Normal() => Math.Sqrt(-2 * Math.Log(1 - Uniform())) * Math.Cos(2 * Math.PI * Uniform());

        private ulong Next()
        {
            ulong z = _state += 0x9E3779B97F4A7C15;
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
            return z ^ (z >> 31);
        }
    }
}
