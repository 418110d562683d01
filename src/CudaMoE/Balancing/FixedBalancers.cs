namespace CudaMoE.Balancing;

/// <summary>Weights that do not depend on losses or gradients.</summary>
public abstract class FixedBalancer : IBalancer
{
    private static readonly Dictionary<string, IReadOnlyList<double>> NoState = [];

    private readonly double[] _weights;

    private protected FixedBalancer(string name, IReadOnlyList<double> weights)
    {
        Name = name;
        _weights = [.. weights];
        Diagnostics = new(weights.Count);
    }

    /// <inheritdoc/>
    public string Name { get; }

    /// <inheritdoc/>
    public int Tasks => _weights.Length;

    /// <inheritdoc/>
    public BalancerDiagnostics Diagnostics { get; }

    /// <inheritdoc/>
    public bool NeedsGram(long atStep) => false;

    /// <inheritdoc/>
    public ColumnKind NeedsColumns => ColumnKind.None;

    /// <inheritdoc/>
    public bool NeedsLossesAfterStep => false;

    /// <inheritdoc/>
    public ReadOnlySpan<float> ColumnWeights => [];

    /// <inheritdoc/>
    public void ObserveAfterStep(in BalancerInput after)
    {
    }

    /// <inheritdoc/>
    public void Weights(in BalancerInput input, Span<double> weights)
    {
        input.Check(Tasks, needsGram: false, weights.Length);
        for (int task = 0; task < weights.Length; task++)
            weights[task] = input.IsValid(task) ? _weights[task] : 0;
    }

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, IReadOnlyList<double>> Save() => NoState;

    /// <inheritdoc/>
    public void Load(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        if (state.Count > 0)
            throw new CudaMoEException($"balancer {Name} has no state, but the checkpoint holds {string.Join(", ", state.Keys)}");
    }
}

/// <summary>All weights 1: the plain sum of the losses.</summary>
public sealed class EqualBalancer(int tasks) : FixedBalancer("equal", [.. Enumerable.Repeat(1d, tasks)]);

/// <summary>The tasks' own weights.</summary>
public sealed class StaticBalancer(IReadOnlyList<double> taskWeights) : FixedBalancer("static", taskWeights);
