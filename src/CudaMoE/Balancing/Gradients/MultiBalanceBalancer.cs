using CudaMoE.Description;

namespace CudaMoE.Balancing;

/// <summary>
/// MultiBalance (He et al. 2024, arXiv 2411.11871). Each step, for task gradients g_m on the shared representation:
/// <list type="number">
/// <item>u_m = (1 - gamma) u_m + gamma |g_m|, started at the first norm;</item>
/// <item>v_m = (u_m / |g_m|) g_m: the averaged length in the current direction;</item>
/// <item>lambda = P(lambda - beta C (lambda + rho / K)), C the Gram matrix of the v_m after scaling, P the projection onto the simplex;</item>
/// <item>the combined gradient is the sum of lambda_m v_m, so task m's weight on its original gradient is lambda_m u_m / |g_m|.</item>
/// </list>
/// The paper's full text was not to be had; the equations come from a secondary source, and the start of u and the scaling of C
/// (cosine by default) are this project's choices.
/// </summary>
/// <remarks>
/// A task that is left out keeps its u and its lambda, and the projection shares out the rest among the others: were it to take part with a
/// zero gradient, its lambda would grow with every batch that lacks its labels.
/// </remarks>
public sealed class MultiBalanceBalancer : GramBalancer
{
    private const string AverageKey = "u";
    private const string LambdaKey = "lambda";

    private readonly double _gamma;
    private readonly double _beta;
    private readonly double _rho;
    private readonly GramScale _gramScale;
    private readonly double[] _average;
    private readonly double[] _lambda;
    private readonly double[] _next;
    private readonly double[] _scratch;

    /// <summary>Creates it with equal lambda.</summary>
    /// <param name="description">Its constants.</param>
    /// <param name="taskWeights">The factor of each task's loss.</param>
    public MultiBalanceBalancer(BalancerDescription description, IReadOnlyList<double> taskWeights)
        : base("multi_balance", taskWeights, description.Every, description.Floor, description.TimesTasks)
    {
        _gamma = description.Gamma ?? 0.01;
        _beta = description.Beta ?? 0.1;
        _rho = description.Rho ?? 0.1;
        _gramScale = description.GramScale ?? GramScale.Cosine;
        int tasks = taskWeights.Count;
        _average = new double[tasks];
        _lambda = new double[tasks];
        _next = new double[tasks];
        _scratch = new double[tasks];
        _average.AsSpan().Fill(double.NaN);
        _lambda.AsSpan().Fill(1d / tasks);
    }

    /// <summary>Moving averages of the gradient norms, K; NaN before a task's first gradient.</summary>
    public ReadOnlySpan<double> Averages => _average;

    private protected override bool IsVanishing(int task, double norm) => norm < VanishingShare * _average[task];

    private protected override double Solve(in BalancerInput input, Span<double> lambda, Span<double> scale)
    {
        int tasks = Tasks;
        ReadOnlySpan<double> norms = Diagnostics.Norms;
        for (int task = 0; task < tasks; task++)
        {
            if (!Usable[task])
                continue;
            double average = _average[task];
            _average[task] = double.IsNaN(average) ? norms[task] : ((1 - _gamma) * average) + (_gamma * norms[task]);
            scale[task] = _average[task] / norms[task];
        }

        StepLambda();
        _lambda.CopyTo(lambda);
        return TimesTasks ? tasks : 1;
    }

    private protected override void SaveOwn(Dictionary<string, IReadOnlyList<double>> state)
    {
        base.SaveOwn(state);
        state.Add(AverageKey, [.. _average]);
        state.Add(LambdaKey, [.. _lambda]);
    }

    private protected override void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        base.LoadOwn(state);
        Take(state, AverageKey, _average);
        Take(state, LambdaKey, _lambda);
    }

    /// <summary>One projected-gradient step of 1/2 |V lambda|^2 + rho (V lambda) . (V lambda_0) over the usable tasks.</summary>
    private void StepLambda()
    {
        int tasks = Tasks;
        double trace = 0;
        for (int task = 0; task < tasks; task++)
            trace += Usable[task] ? _average[task] * _average[task] : 0;
        double mass = 0;
        int count = 0;
        for (int i = 0; i < tasks; i++)
        {
            if (!Usable[i])
                continue;
            double slope = 0;
            for (int j = 0; j < tasks; j++)
            {
                if (Usable[j])
                    slope += Entry(i, j, trace) * (_lambda[j] + (_rho / tasks));
            }

            mass += _lambda[i];
            _next[count++] = _lambda[i] - (_beta * slope);
        }

        SimplexProjection.Project(_next.AsSpan(0, count), _scratch, mass);
        count = 0;
        for (int task = 0; task < tasks; task++)
        {
            if (Usable[task])
                _lambda[task] = _next[count++];
        }
    }

    /// <summary>An entry of the scaled Gram matrix of the v_m.</summary>
    private double Entry(int i, int j, double trace)
    {
        double cosine = Diagnostics.Cosines[(i * Tasks) + j];
        return _gramScale switch
        {
            GramScale.Cosine => cosine,
            GramScale.None => cosine * _average[i] * _average[j],
            _ => cosine * _average[i] * _average[j] / trace,
        };
    }
}
