namespace CudaMoE.Balancing;

/// <summary>
/// What all balancers that compute weights share: the tasks' own weights, which tasks take part in a step, the floor, the size of the sum,
/// equal weights where nothing can be computed, counts, and the state of a checkpoint.
/// </summary>
/// <remarks>
/// A task's own weight multiplies its loss, and so its gradient, before anything else. A method computes lambda, on the scale on which K
/// equal tasks have 1/K each; <see cref="TimesTasks"/> multiplies by the number of tasks, so that the result compares with a plain sum.
/// </remarks>
public abstract class TaskBalancer : IBalancer
{
    private const string CountsKey = "counts";

    private readonly double[] _taskWeights;
    private readonly double _floor;

    private protected TaskBalancer(string name, IReadOnlyList<double> taskWeights, double floor, bool timesTasks)
    {
        Name = name;
        _taskWeights = [.. taskWeights];
        _floor = floor;
        TimesTasks = timesTasks;
        Usable = new bool[taskWeights.Count];
        Losses = new double[taskWeights.Count];
        Diagnostics = new(taskWeights.Count);
    }

    /// <inheritdoc/>
    public string Name { get; }

    /// <inheritdoc/>
    public int Tasks => _taskWeights.Length;

    /// <inheritdoc/>
    public BalancerDiagnostics Diagnostics { get; }

    /// <summary>Whether the weights are multiplied by the number of tasks.</summary>
    private protected bool TimesTasks { get; }

    /// <summary>The tasks of this step that take part.</summary>
    private protected bool[] Usable { get; }

    /// <summary>This step's losses with their own weights applied.</summary>
    private protected double[] Losses { get; }

    /// <summary>The factors of the tasks' losses.</summary>
    private protected ReadOnlySpan<double> TaskWeights => _taskWeights;

    /// <inheritdoc/>
    public virtual bool NeedsGram(long atStep) => false;

    /// <inheritdoc/>
    public virtual bool NeedsLossesAfterStep => false;

    /// <inheritdoc/>
    public virtual ColumnKind NeedsColumns => ColumnKind.None;

    /// <inheritdoc/>
    public virtual ReadOnlySpan<float> ColumnWeights => [];

    /// <inheritdoc/>
    public abstract void Weights(in BalancerInput input, Span<double> weights);

    /// <inheritdoc/>
    public virtual void ObserveAfterStep(in BalancerInput after)
    {
    }

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, IReadOnlyList<double>> Save()
    {
        Dictionary<string, IReadOnlyList<double>> state = new(StringComparer.Ordinal)
        {
            [CountsKey] = [Diagnostics.LeftOut, Diagnostics.Fallbacks],
        };
        SaveOwn(state);
        return state;
    }

    /// <inheritdoc/>
    public void Load(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        IReadOnlyList<double> counts = Take(state, CountsKey, 2);
        Diagnostics.LeftOut = (long)counts[0];
        Diagnostics.Fallbacks = (long)counts[1];
        LoadOwn(state);
    }

    private protected virtual void SaveOwn(Dictionary<string, IReadOnlyList<double>> state)
    {
    }

    private protected virtual void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
    }

    /// <summary>Whether a valid task's loss and gradient are numbers, so that it may have a weight when no weights can be computed.</summary>
    private protected abstract bool IsFinite(int task);

    /// <summary>Sets <see cref="Losses"/>.</summary>
    private protected void ReadLosses(in BalancerInput input)
    {
        for (int task = 0; task < Tasks; task++)
            Losses[task] = _taskWeights[task] * input.Losses[task];
    }

    /// <summary>
    /// Turns lambda into weights: the floor, the factors that <paramref name="weights"/> holds, one factor for all, the tasks' own weights. Equal
    /// weights, counted, when one is not finite.
    /// </summary>
    private protected void Finish(in BalancerInput input, int usable, ReadOnlySpan<double> lambda, double factor, Span<double> weights)
    {
        double mass = 0;
        for (int task = 0; task < Tasks; task++)
            mass += Usable[task] ? lambda[task] : 0;
        double kept = 1 - (Tasks * _floor);
        double shared = Tasks * _floor * mass / usable;
        bool finite = true;
        for (int task = 0; task < Tasks; task++)
        {
            double mixed = (kept * lambda[task]) + shared;
            weights[task] = Usable[task] ? mixed * weights[task] * factor * _taskWeights[task] : 0;
            finite &= double.IsFinite((float)weights[task]);
        }

        if (!finite)
            Fallback(input, weights);
    }

    /// <summary>Equal weights for the valid tasks, but 0 for one whose loss or gradient is not finite while others are; counted.</summary>
    private protected void Fallback(in BalancerInput input, Span<double> weights)
    {
        Diagnostics.Fallbacks++;
        bool anyFinite = false;
        for (int task = 0; task < weights.Length; task++)
            anyFinite |= input.IsValid(task) && IsFinite(task);
        for (int task = 0; task < weights.Length; task++)
            weights[task] = input.IsValid(task) && (!anyFinite || IsFinite(task)) ? EqualWeight(task) : 0;
    }

    /// <summary>A task's weight when all lambda are 1/K.</summary>
    private protected double EqualWeight(int task) => _taskWeights[task] * (TimesTasks ? 1 : 1d / Tasks);

    /// <summary>The values of a state's entry, checked for their number.</summary>
    private protected IReadOnlyList<double> Take(IReadOnlyDictionary<string, IReadOnlyList<double>> state, string key, int count) =>
        !state.TryGetValue(key, out IReadOnlyList<double>? values)
            ? throw new CudaMoEException($"the saved state has no \"{key}\"; it is not of balancer {Name}")
            : values.Count == count ? values : throw new CudaMoEException($"the saved state has {values.Count} values of \"{key}\"; balancer {Name} needs {count}");

    /// <summary>Takes a state's entry into an array of its length.</summary>
    private protected void Take(IReadOnlyDictionary<string, IReadOnlyList<double>> state, string key, Span<double> destination)
    {
        IReadOnlyList<double> values = Take(state, key, destination.Length);
        for (int i = 0; i < destination.Length; i++)
            destination[i] = values[i];
    }
}
