namespace CudaMoE.Balancing;

/// <summary>
/// The frame of balancers that look at gradients: applies the tasks' own weights, leaves out tasks whose gradient is zero or not
/// finite, holds weights between evaluations, and answers a useless Gram matrix with equal weights.
/// </summary>
/// <remarks>
/// A task's own weight w multiplies its loss and so its gradient: norms and cosines are those of w * g. A task that is left out
/// gets weight 0 in that step, so that no NaN reaches the trunk.
/// </remarks>
public abstract class GramBalancer : IBalancer
{
    /// <summary>A norm below this share of the task's average counts as zero: scaled up to the average it would be rounding noise.</summary>
    private protected const double VanishingShare = 1e-12;

    private const string HeldKey = "held_weights";

    private readonly double[] _taskWeights;
    private readonly double[] _held;
    private readonly int _every;
    private readonly double _floor;
    private bool _hasHeld;

    private protected GramBalancer(string name, IReadOnlyList<double> taskWeights, int every, double floor, bool timesTasks)
    {
        Name = name;
        _taskWeights = [.. taskWeights];
        _every = every;
        _floor = floor;
        TimesTasks = timesTasks;
        _held = new double[taskWeights.Count];
        Usable = new bool[taskWeights.Count];
        Gram = new double[taskWeights.Count * taskWeights.Count];
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

    /// <summary>Inner products of this step's gradients with their own weights applied; 0 in the rows and columns of tasks left out.</summary>
    private protected double[] Gram { get; }

    /// <inheritdoc/>
    public bool NeedsGram(long atStep) => !_hasHeld || atStep % _every == 0;

    /// <inheritdoc/>
    public void Weights(in BalancerInput input, Span<double> weights)
    {
        bool evaluate = NeedsGram(input.Step);
        input.Check(Tasks, evaluate, weights.Length);
        if (evaluate)
        {
            Evaluate(input, weights);
            Hold(weights);
            return;
        }

        for (int task = 0; task < weights.Length; task++)
            weights[task] = input.IsValid(task) ? _held[task] : 0;
    }

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, IReadOnlyList<double>> Save()
    {
        Dictionary<string, IReadOnlyList<double>> state = new(StringComparer.Ordinal)
        {
            ["counts"] = [Diagnostics.LeftOut, Diagnostics.Fallbacks],
        };
        if (_hasHeld)
            state.Add(HeldKey, [.. _held]);
        SaveOwn(state);
        return state;
    }

    /// <inheritdoc/>
    public void Load(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        IReadOnlyList<double> counts = Take(state, "counts", 2);
        Diagnostics.LeftOut = (long)counts[0];
        Diagnostics.Fallbacks = (long)counts[1];
        _hasHeld = state.ContainsKey(HeldKey);
        if (_hasHeld)
            Copy(Take(state, HeldKey, Tasks), _held);
        LoadOwn(state);
    }

    /// <summary>Sets lambda of the usable tasks (at least one) from <see cref="Gram"/> and the diagnostics.</summary>
    /// <param name="lambda">K weights; those of tasks left out are not looked at.</param>
    /// <param name="scale">K factors that turn lambda into weights of the gradients; preset to 1.</param>
    /// <returns>The factor of all weights that <see cref="TimesTasks"/> asks for.</returns>
    private protected abstract double Solve(Span<double> lambda, Span<double> scale);

    /// <summary>Whether a finite, positive norm of a task is nevertheless too small to be used.</summary>
    private protected virtual bool IsVanishing(int task, double norm) => false;

    private protected virtual void SaveOwn(Dictionary<string, IReadOnlyList<double>> state)
    {
    }

    private protected virtual void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
    }

    /// <summary>The values of a state's entry, checked for their number.</summary>
    private protected IReadOnlyList<double> Take(IReadOnlyDictionary<string, IReadOnlyList<double>> state, string key, int count) =>
        !state.TryGetValue(key, out IReadOnlyList<double>? values)
            ? throw new CudaMoEException($"the saved state has no \"{key}\"; it is not of balancer {Name}")
            : values.Count == count ? values : throw new CudaMoEException($"the saved state has {values.Count} values of \"{key}\"; balancer {Name} needs {count}");

    private protected static void Copy(IReadOnlyList<double> source, Span<double> destination)
    {
        for (int i = 0; i < destination.Length; i++)
            destination[i] = source[i];
    }

    private void Evaluate(in BalancerInput input, Span<double> weights)
    {
        int tasks = Tasks;
        int usable = ReadGram(input);
        Span<double> lambda = Diagnostics.MutableLambda;
        if (usable == 0 || !ReadCosines())
        {
            Diagnostics.Fallbacks++;
            Fallback(input, weights);
            return;
        }

        weights.Fill(1);
        double factor = Solve(lambda, weights);
        double mass = 0;
        for (int task = 0; task < tasks; task++)
            mass += Usable[task] ? lambda[task] : 0;
        double kept = 1 - (tasks * _floor);
        double shared = tasks * _floor * mass / usable;
        bool finite = true;
        for (int task = 0; task < tasks; task++)
        {
            double mixed = (kept * lambda[task]) + shared;
            weights[task] = Usable[task] ? mixed * weights[task] * factor * _taskWeights[task] : 0;
            finite &= double.IsFinite(weights[task]);
        }

        if (!finite)
        {
            Diagnostics.Fallbacks++;
            Fallback(input, weights);
        }
    }

    /// <summary>Equal weights for the valid tasks, but 0 for one whose gradient is not finite while others are.</summary>
    private void Fallback(in BalancerInput input, Span<double> weights)
    {
        bool anyFinite = false;
        for (int task = 0; task < weights.Length; task++)
            anyFinite |= input.IsValid(task) && double.IsFinite(Diagnostics.Norms[task]);
        for (int task = 0; task < weights.Length; task++)
        {
            bool given = input.IsValid(task) && (!anyFinite || double.IsFinite(Diagnostics.Norms[task]));
            weights[task] = given ? _taskWeights[task] * (TimesTasks ? 1 : 1d / weights.Length) : 0;
        }
    }

    private int ReadGram(in BalancerInput input)
    {
        int tasks = Tasks;
        Span<double> norms = Diagnostics.MutableNorms;
        int usable = 0;
        for (int task = 0; task < tasks; task++)
        {
            double norm = _taskWeights[task] * Math.Sqrt(input.Gram[(task * tasks) + task]);
            norms[task] = norm;
            Usable[task] = input.IsValid(task) && double.IsFinite(norm) && norm > 0 && !IsVanishing(task, norm);
            usable += Usable[task] ? 1 : 0;
            if (input.IsValid(task) && _taskWeights[task] > 0 && !Usable[task])
                Diagnostics.LeftOut++;
        }

        for (int i = 0; i < tasks; i++)
        {
            for (int j = 0; j < tasks; j++)
                Gram[(i * tasks) + j] = Usable[i] && Usable[j] ? _taskWeights[i] * _taskWeights[j] * input.Gram[(i * tasks) + j] : 0;
        }

        return usable;
    }

    /// <summary>Sets the cosines; false when one between usable tasks is NaN. Rounding beyond -1 .. 1 is cut.</summary>
    private bool ReadCosines()
    {
        int tasks = Tasks;
        ReadOnlySpan<double> norms = Diagnostics.Norms;
        Span<double> cosines = Diagnostics.MutableCosines;
        cosines.Fill(double.NaN);
        for (int i = 0; i < tasks; i++)
        {
            for (int j = 0; j < tasks; j++)
            {
                if (!Usable[i] || !Usable[j])
                    continue;
                double cosine = i == j ? 1 : Gram[(i * tasks) + j] / norms[i] / norms[j];
                if (double.IsNaN(cosine))
                    return false;
                cosines[(i * tasks) + j] = Math.Clamp(cosine, -1, 1);
            }
        }

        return true;
    }

    /// <summary>Keeps the weights for the steps up to the next evaluation; a task that was left out now has the mean of the others then.</summary>
    private void Hold(ReadOnlySpan<double> weights)
    {
        double sum = 0;
        int count = 0;
        for (int task = 0; task < weights.Length; task++)
        {
            sum += Usable[task] ? weights[task] : 0;
            count += Usable[task] ? 1 : 0;
        }

        for (int task = 0; task < weights.Length; task++)
        {
            double absent = count > 0 ? sum / count : _taskWeights[task] * (TimesTasks ? 1 : 1d / weights.Length);
            _held[task] = Usable[task] || _taskWeights[task] == 0 ? weights[task] : absent;
        }

        _hasHeld = true;
    }
}
