namespace CudaMoE.Balancing;

/// <summary>
/// GLS: minimises the geometric mean of the losses, (prod L_t)^(1/K), whose derivative by L_t is that mean / (K L_t) (Chennupati et al., CVPR workshops 2019,
/// section 3.2).
/// </summary>
internal sealed class GeometricLossBalancer(string name, BalancerSettings settings) : LossBalancer(name, settings, positive: true)
{
    private protected override void Solve(long step, int usable, Span<double> lambda)
    {
        double logarithms = 0;
        for (int task = 0; task < Tasks; task++)
            logarithms += Usable[task] ? Math.Log(Losses[task]) : 0;
        double mean = Math.Exp(logarithms / usable);
        for (int task = 0; task < Tasks; task++)
            lambda[task] = Usable[task] ? mean / (usable * Losses[task]) : 0;
    }
}
