using CudaMoE.Description;

namespace CudaMoE.Balancing;

/// <summary>Makes the balancer that a description asks for.</summary>
public static class BalancerFactory
{
    /// <summary>Makes a balancer in its first state.</summary>
    /// <param name="description">Which one, and its constants.</param>
    /// <param name="taskWeights">The factor of each task's loss, at least 0, not all 0; equal ignores it.</param>
    /// <exception cref="ArgumentException">A task weight is negative or not finite, or none is above 0.</exception>
    public static IBalancer Create(BalancerDescription description, IReadOnlyList<double> taskWeights)
    {
        ArgumentNullException.ThrowIfNull(description);
        if (!taskWeights.Any(weight => weight > 0) || taskWeights.Any(weight => !(weight >= 0 && double.IsFinite(weight))))
            throw new ArgumentException($"task weights are [{string.Join(", ", taskWeights)}]; they must be finite and at least 0, one above 0", nameof(taskWeights));
        return description.Type switch
        {
            BalancerType.Equal => new EqualBalancer(taskWeights.Count),
            BalancerType.Static => new StaticBalancer(taskWeights),
            BalancerType.Mgda => new MgdaBalancer(description, taskWeights),
            BalancerType.MultiBalance => new MultiBalanceBalancer(description, taskWeights),
            _ => throw new ArgumentException($"balancer type {description.Type} is not known", nameof(description)),
        };
    }
}
