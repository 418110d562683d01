using System.Text.Json;
using CudaMoE.Description;

namespace CudaMoE.Balancing;

/// <summary>Makes the balancer that a description asks for.</summary>
public static class BalancerFactory
{
    /// <summary>Makes a balancer in its first state.</summary>
    /// <param name="description">Which one, and its constants.</param>
    /// <param name="taskWeights">The factor of each task's loss, at least 0, not all 0; equal ignores it.</param>
    /// <param name="seed">Seed of balancers that draw random numbers.</param>
    /// <param name="stepsPerEpoch">Steps over which balancers of mean losses take them, where the description gives no period.</param>
    /// <exception cref="ArgumentException">A task weight is negative or not finite, or none is above 0.</exception>
    public static IBalancer Create(BalancerDescription description, IReadOnlyList<double> taskWeights, ulong seed = 1, long stepsPerEpoch = 1) =>
        Create(description, taskWeights, seed, stepsPerEpoch, vectors: null);

    /// <summary>As the other, for methods that look at gradient vectors: where those lie, if not in the sums of columns that each step brings.</summary>
    internal static IBalancer Create(BalancerDescription description, IReadOnlyList<double> taskWeights, ulong seed, long stepsPerEpoch, IGradientVectors? vectors)
    {
        ArgumentNullException.ThrowIfNull(description);
        if (!taskWeights.Any(weight => weight > 0) || taskWeights.Any(weight => !(weight >= 0 && double.IsFinite(weight))))
            throw new ArgumentException($"task weights are [{string.Join(", ", taskWeights)}]; they must be finite and at least 0, one above 0", nameof(taskWeights));
        BalancerSettings settings = new(description, taskWeights, seed, stepsPerEpoch, vectors);
        string name = JsonNamingPolicy.SnakeCaseLower.ConvertName(description.Type.ToString());
        return description.Type switch
        {
            BalancerType.Equal => new EqualBalancer(taskWeights.Count),
            BalancerType.Static => new StaticBalancer(taskWeights),
            BalancerType.Uw => new UncertaintyBalancer(name, settings, imtl: false),
            BalancerType.Dwa => new DynamicWeightAverageBalancer(name, settings),
            BalancerType.Gls => new GeometricLossBalancer(name, settings),
            BalancerType.Rlw => new RandomLossBalancer(name, settings),
            BalancerType.Stch => new SmoothTchebycheffBalancer(name, settings),
            BalancerType.Famo => new FamoBalancer(name, settings),
            BalancerType.ImtlL => new UncertaintyBalancer(name, settings, imtl: true),
            BalancerType.GradNorm => new GradNormBalancer(name, settings),
            BalancerType.Mgda => new MgdaBalancer(description, taskWeights),
            BalancerType.MultiBalance => new MultiBalanceBalancer(description, taskWeights),
            BalancerType.Pcgrad => new PcgradBalancer(name, settings),
            BalancerType.GradVac => new GradVacBalancer(name, settings),
            BalancerType.Cagrad => new CagradBalancer(name, settings),
            BalancerType.ImtlG => new ImtlBalancer(name, settings, scales: false),
            BalancerType.Imtl => new ImtlBalancer(name, settings, scales: true),
            BalancerType.NashMtl => new FairGradBalancer(name, settings, alpha: 1),
            BalancerType.FairGrad => new FairGradBalancer(name, settings, description.Alpha ?? 1),
            BalancerType.AlignedMtl => new AlignedMtlBalancer(name, settings),
            BalancerType.Upgrad => new UpgradBalancer(name, settings),
            BalancerType.PeLtr => new ParetoEfficientBalancer(name, settings),
            BalancerType.MetaBalance => new MetaBalanceBalancer(name, settings),
            BalancerType.Moco => new MocoBalancer(name, settings),
            BalancerType.Modo => new ModoBalancer(name, settings),
            BalancerType.Sdmgrad => new SdmgradBalancer(name, settings),
            BalancerType.DbMtl => new DbMtlBalancer(name, settings),
            BalancerType.ExcessMtl => new ExcessMtlBalancer(name, settings),
            BalancerType.GradDrop => new GradDropBalancer(name, settings),
            _ => throw new ArgumentException($"balancer type {description.Type} is not known", nameof(description)),
        };
    }
}
