using CudaMoE.Description;

namespace CudaMoE.Balancing;

/// <summary>
/// The weights on the simplex for which the combined gradient has the least norm (Désidéri 2012; Sener and Koltun, NeurIPS 2018,
/// whose MGDA-UB takes the gradients on the shared representation, as here). Solved exactly.
/// </summary>
/// <remarks>
/// With <see cref="BalancerDescription.Normalize"/> the weights are those for gradients divided by their norms, losses, or both; like those of the authors' code they
/// then apply to the gradients as they are. With <see cref="BalancerDescription.TimesTasks"/> all weights are multiplied by the number of tasks that take part.
/// </remarks>
public sealed class MgdaBalancer : CompactGramBalancer
{
    private readonly MinimumNormSolver _solver;
    private readonly double[] _scaled;
    private readonly GradientNormalization _normalize;

    /// <summary>Creates it.</summary>
    /// <param name="description">Its constants.</param>
    /// <param name="taskWeights">The factor of each task's loss.</param>
    public MgdaBalancer(BalancerDescription description, IReadOnlyList<double> taskWeights)
        : base("mgda", description, taskWeights, sums: false)
    {
        _solver = new(taskWeights.Count);
        _scaled = new double[taskWeights.Count * taskWeights.Count];
        _normalize = description.Normalize ?? GradientNormalization.None;
    }

    private protected override void Solve(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                int entry = (i * n) + j;
                double losses = Losses[problem.Members[i]] * Losses[problem.Members[j]];
                _scaled[entry] = _normalize switch
                {
                    GradientNormalization.Norm => problem.Cosines[entry],
                    GradientNormalization.Loss => problem.Gram[entry] / losses,
                    GradientNormalization.LossNorm => problem.Cosines[entry] / losses,
                    _ => problem.Gram[entry],
                };
                if (!double.IsFinite(_scaled[entry]))
                {
                    // A loss of 0.
                    weights.Fill(double.NaN);
                    return;
                }
            }
        }

        _solver.Solve(_scaled.AsSpan(0, n * n), weights);
    }
}
