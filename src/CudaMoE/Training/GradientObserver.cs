namespace CudaMoE.Training;

/// <summary>Looks at the tasks' gradients every few steps where the balancer does not: their norms and cosines from a Gram matrix.</summary>
/// <param name="every">Steps from one look to the next.</param>
/// <param name="tasks">Tasks.</param>
internal sealed class GradientObserver(int every, int tasks)
{
    private readonly double[] _norms = new double[tasks];
    private readonly double[] _cosines = new double[tasks * tasks];

    /// <summary>Norms of the gradients.</summary>
    public ReadOnlySpan<double> Norms => _norms;

    /// <summary>[tasks, tasks] cosines; NaN where a task has no labels, or a gradient that is zero or not finite.</summary>
    public ReadOnlySpan<double> Cosines => _cosines;

    /// <summary>Whether gradients are looked at in a step, counted from 0.</summary>
    public bool IsDue(long step) => step % every == 0;

    /// <summary>Takes norms and cosines from a Gram matrix.</summary>
    public void Look(ReadOnlySpan<double> gram, ReadOnlySpan<bool> valid)
    {
        for (int t = 0; t < tasks; t++)
            _norms[t] = Math.Sqrt(gram[(t * tasks) + t]);
        for (int i = 0; i < tasks; i++)
        {
            for (int j = 0; j < tasks; j++)
            {
                bool both = valid[i] && valid[j] && _norms[i] > 0 && _norms[j] > 0 && double.IsFinite(_norms[i]) && double.IsFinite(_norms[j]);
                _cosines[(i * tasks) + j] = !both ? double.NaN : i == j ? 1 : Math.Clamp(gram[(i * tasks) + j] / _norms[i] / _norms[j], -1, 1);
            }
        }
    }
}
