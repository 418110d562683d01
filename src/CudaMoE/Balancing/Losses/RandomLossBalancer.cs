namespace CudaMoE.Balancing;

/// <summary>RLW: in each step the softmax of standard normal numbers (Lin et al., TMLR 2022, section 3). Drawn from the run's seed and the step.</summary>
internal sealed class RandomLossBalancer(string name, BalancerSettings settings) : LossBalancer(name, settings, positive: false)
{
    private readonly ulong _seed = settings.Seed;

    private protected override void Solve(long step, int usable, Span<double> lambda)
    {
        StepRandom random = new(_seed, step);
        for (int task = 0; task < Tasks; task++)
            lambda[task] = random.Normal();
        Softmax.Apply(lambda, Usable);
    }
}
