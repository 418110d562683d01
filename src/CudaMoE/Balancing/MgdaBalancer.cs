using CudaMoE.Description;

namespace CudaMoE.Balancing;

/// <summary>
/// The weights on the simplex for which the combined gradient has the least norm (Désidéri 2012; Sener and Koltun, NeurIPS 2018,
/// whose MGDA-UB takes the gradients on the shared representation, as here). Solved exactly.
/// </summary>
/// <remarks>
/// With <see cref="BalancerDescription.Normalize"/> the weights are those for gradients of norm 1; like those of the authors' code they then apply to
/// the gradients as they are. With <see cref="BalancerDescription.TimesTasks"/> all weights are multiplied by the number of tasks that take part.
/// </remarks>
public sealed class MgdaBalancer : GramBalancer
{
    private readonly MinimumNormSolver _solver;
    private readonly double[] _gram;
    private readonly double[] _weights;
    private readonly bool _normalize;

    /// <summary>Creates it.</summary>
    /// <param name="description">Its constants.</param>
    /// <param name="taskWeights">The factor of each task's loss.</param>
    public MgdaBalancer(BalancerDescription description, IReadOnlyList<double> taskWeights)
        : base("mgda", taskWeights, description.Every, description.Floor, description.TimesTasks)
    {
        _solver = new(taskWeights.Count);
        _gram = new double[taskWeights.Count * taskWeights.Count];
        _weights = new double[taskWeights.Count];
        _normalize = description.Normalize;
    }

    private protected override double Solve(Span<double> lambda, Span<double> scale)
    {
        ReadOnlySpan<double> source = _normalize ? Diagnostics.Cosines : Gram;
        int tasks = Tasks;
        int count = 0;
        for (int i = 0; i < tasks; i++)
            count += Usable[i] ? 1 : 0;
        int next = 0;
        for (int i = 0; i < tasks; i++)
        {
            for (int j = 0; Usable[i] && j < tasks; j++)
            {
                if (Usable[j])
                    _gram[next++] = source[(i * tasks) + j];
            }
        }

        _solver.Solve(_gram.AsSpan(0, count * count), _weights.AsSpan(0, count));
        next = 0;
        for (int i = 0; i < tasks; i++)
            lambda[i] = Usable[i] ? _weights[next++] : 0;
        return TimesTasks ? count : 1;
    }
}
