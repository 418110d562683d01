using CudaMoE.Description;

namespace CudaMoE.Balancing;

/// <summary>The frame of balancers that look at the losses only, and so need no gradient of a single task.</summary>
internal abstract class LossBalancer : TaskBalancer
{
    // Where a method divides by a loss or takes its logarithm, a smaller one is as good as 0: the task is left out.
    private const double LeastPositive = 1e-12;

    private readonly bool _positive;

    /// <param name="name">The name in descriptions and logs.</param>
    /// <param name="settings">What to make it of.</param>
    /// <param name="positive">Whether a loss of 0 cannot be used.</param>
    private protected LossBalancer(string name, BalancerSettings settings, bool positive)
        : base(name, settings.TaskWeights, settings.Description.Floor, settings.Description.TimesTasks) => _positive = positive;

    /// <inheritdoc/>
    public override void Weights(in BalancerInput input, Span<double> weights)
    {
        input.Check(Tasks, needsGram: false, weights.Length);
        ReadLosses(input);
        int usable = MarkUsable(input);
        if (usable == 0)
        {
            Fallback(input, weights);
            return;
        }

        weights.Fill(1);
        Span<double> lambda = Diagnostics.MutableLambda;
        Solve(input.Step, usable, lambda);
        Finish(input, usable, lambda, TimesTasks ? usable : 1, weights);
    }

    /// <summary>Sets lambda of the usable tasks from <see cref="TaskBalancer.Losses"/>, on the scale on which equal tasks have 1 / usable each.</summary>
    private protected abstract void Solve(long step, int usable, Span<double> lambda);

    private protected override bool IsFinite(int task) => double.IsFinite(Losses[task]);

    /// <summary>Marks the tasks that take part; a valid one that cannot is counted.</summary>
    private int MarkUsable(in BalancerInput input)
    {
        int usable = 0;
        for (int task = 0; task < Tasks; task++)
        {
            bool asked = input.IsValid(task) && TaskWeights[task] > 0;
            Usable[task] = asked && double.IsFinite(Losses[task]) && (!_positive || Losses[task] > LeastPositive);
            usable += Usable[task] ? 1 : 0;
            if (asked && !Usable[task])
                Diagnostics.LeftOut++;
        }

        return usable;
    }
}

/// <summary>What a balancer is made of.</summary>
/// <param name="Description">Which one, and its constants.</param>
/// <param name="TaskWeights">The factor of each task's loss.</param>
/// <param name="Seed">Seed of random numbers.</param>
/// <param name="StepsPerEpoch">Length of a period where the description gives none.</param>
/// <param name="Vectors">Where gradient vectors lie, if not in the sums of columns that each step brings.</param>
internal sealed record BalancerSettings(BalancerDescription Description, IReadOnlyList<double> TaskWeights, ulong Seed, long StepsPerEpoch, IGradientVectors? Vectors = null)
{
    public int Tasks => TaskWeights.Count;

    /// <summary>Steps over which mean losses are taken.</summary>
    public long Period => Description.Period ?? StepsPerEpoch;
}
