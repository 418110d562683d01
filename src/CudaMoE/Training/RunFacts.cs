using System.Reflection;
using System.Text.Json;
using CudaMoE.Models;
using CudaMoE.Tensors;

namespace CudaMoE.Training;

/// <summary>Small facts that run events are made of.</summary>
internal static class RunFacts
{
    public static string Version { get; } =
        typeof(RunFacts).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "0";

    public static string DeviceName(Device device) => $"{device.Info.Backend}: {device.Info.Name}";

    public static string SnakeCase<T>(T value)
        where T : struct, Enum => JsonNamingPolicy.SnakeCaseLower.ConvertName(value.ToString());

    /// <summary>Share of each expert in the last batch: of the routed pairs, or of the gate weight; sums to 1.</summary>
    public static double[] ExpertLoad(MultiTaskModel model, long rows)
    {
        double[] load = new double[model.ExpertCount];
        ReadOnlySpan<double> sums = model.GateSums;
        ReadOnlySpan<long> counts = model.ExpertCounts;
        for (int g = 0; g < model.GateCount; g++)
        {
            for (int e = 0; e < load.Length; e++)
                load[e] += model.IsSparse ? counts[(g * load.Length) + e] : sums[(g * load.Length) + e];
        }

        double total = load.Sum();
        for (int e = 0; e < load.Length && total > 0; e++)
            load[e] /= total;
        return rows == 0 ? new double[load.Length] : load;
    }
}
