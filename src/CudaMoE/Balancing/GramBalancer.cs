namespace CudaMoE.Balancing;

/// <summary>
/// The frame of balancers that look at gradients: leaves out tasks whose gradient is zero or not finite, holds weights between
/// evaluations, and answers a useless Gram matrix with equal weights.
/// </summary>
/// <remarks>
/// Norms and cosines are those of gradients with the tasks' own weights applied. A task that is left out gets weight 0 in that step, so
/// that no NaN reaches the trunk.
/// </remarks>
public abstract class GramBalancer : TaskBalancer
{
    /// <summary>A norm below this share of the task's average counts as zero: scaled up to the average it would be rounding noise.</summary>
    private protected const double VanishingShare = 1e-12;

    private const string HeldKey = "held_weights";

    private readonly double[] _held;
    private readonly int _every;
    private bool _hasHeld;

    private protected GramBalancer(string name, IReadOnlyList<double> taskWeights, int every, double floor, bool timesTasks)
        : base(name, taskWeights, floor, timesTasks)
    {
        _every = every;
        _held = new double[taskWeights.Count];
        Gram = new double[taskWeights.Count * taskWeights.Count];
    }

    /// <summary>Inner products of this step's gradients with their own weights applied; 0 in the rows and columns of tasks left out.</summary>
    private protected double[] Gram { get; }

    /// <summary>The step of this evaluation.</summary>
    private protected long Step { get; private set; }

    /// <inheritdoc/>
    public override bool NeedsGram(long atStep) => !_hasHeld || atStep % _every == 0;

    /// <inheritdoc/>
    public override void Weights(in BalancerInput input, Span<double> weights)
    {
        bool evaluate = NeedsGram(input.Step);
        input.Check(Tasks, evaluate, weights.Length);
        Step = input.Step;
        ReadLosses(input);
        if (evaluate)
        {
            Evaluate(input, weights);
            Hold(weights);
            return;
        }

        for (int task = 0; task < weights.Length; task++)
            weights[task] = input.IsValid(task) ? _held[task] : 0;
    }

    /// <summary>Sets lambda of the usable tasks (at least one) from <see cref="Gram"/>, the losses and the diagnostics. A NaN asks for equal weights.</summary>
    /// <param name="input">The step's input.</param>
    /// <param name="lambda">K weights; those of tasks left out are not looked at.</param>
    /// <param name="scale">K factors that turn lambda into weights of the gradients; preset to 1.</param>
    /// <returns>The factor of all weights that <see cref="TaskBalancer.TimesTasks"/> asks for.</returns>
    private protected abstract double Solve(in BalancerInput input, Span<double> lambda, Span<double> scale);

    /// <summary>Whether a finite, positive norm of a task is nevertheless too small to be used.</summary>
    private protected virtual bool IsVanishing(int task, double norm) => false;

    private protected override bool IsFinite(int task) => double.IsFinite(Diagnostics.Norms[task]);

    private protected override void SaveOwn(Dictionary<string, IReadOnlyList<double>> state)
    {
        if (_hasHeld)
            state.Add(HeldKey, [.. _held]);
    }

    private protected override void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        _hasHeld = state.ContainsKey(HeldKey);
        if (_hasHeld)
            Take(state, HeldKey, _held);
    }

    private void Evaluate(in BalancerInput input, Span<double> weights)
    {
        int usable = ReadGram(input);
        if (usable == 0 || !ReadCosines())
        {
            Fallback(input, weights);
            return;
        }

        weights.Fill(1);
        Span<double> lambda = Diagnostics.MutableLambda;
        double factor = Solve(input, lambda, weights);
        Finish(input, usable, lambda, factor, weights);
    }

    private int ReadGram(in BalancerInput input)
    {
        int tasks = Tasks;
        Span<double> norms = Diagnostics.MutableNorms;
        int usable = 0;
        for (int task = 0; task < tasks; task++)
        {
            double norm = TaskWeights[task] * Math.Sqrt(input.Gram[(task * tasks) + task]);
            norms[task] = norm;
            Usable[task] = input.IsValid(task) && double.IsFinite(norm) && norm > 0 && !IsVanishing(task, norm);
            usable += Usable[task] ? 1 : 0;
            if (input.IsValid(task) && TaskWeights[task] > 0 && !Usable[task])
                Diagnostics.LeftOut++;
        }

        for (int i = 0; i < tasks; i++)
        {
            for (int j = 0; j < tasks; j++)
                Gram[(i * tasks) + j] = Usable[i] && Usable[j] ? TaskWeights[i] * TaskWeights[j] * input.Gram[(i * tasks) + j] : 0;
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
            _held[task] = Usable[task] || TaskWeights[task] == 0 ? weights[task] : count > 0 ? sum / count : EqualWeight(task);

        _hasHeld = true;
    }
}
