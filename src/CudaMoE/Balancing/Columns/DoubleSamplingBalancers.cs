using System.Numerics.Tensors;

namespace CudaMoE.Balancing;

/// <summary>The frame of MoDo and SDMGrad: the Gram matrix G1 G2^T of two independent batches, here the even and the odd rows of one.</summary>
/// <remarks>
/// The papers draw three batches: two for the weights, one for the step. Here the step takes the whole batch. One batch's G G^T overestimates the norms by the noise in them; the
/// product of two does not.
/// </remarks>
internal abstract class DoubleSamplingBalancer : ColumnBalancer
{
    private const string LambdaKey = "lambda";

    private readonly double[] _lambda;
    private readonly double[] _cross;
    private readonly double[] _products;

    private protected DoubleSamplingBalancer(string name, BalancerSettings settings)
        : base(name, settings, sums: false)
    {
        _lambda = new double[settings.Tasks];
        _cross = new double[settings.Tasks * settings.Tasks];
        _products = new double[settings.Tasks * settings.Tasks];
        Array.Fill(_lambda, 1d / settings.Tasks);
    }

    private protected override ColumnKind Columns => ColumnKind.Halves;

    /// <summary>Moves the weights, given with their sum, by the matrix of the two halves.</summary>
    private protected abstract void Move(ReadOnlySpan<double> cross, int n, double mass, Span<double> lambda);

    /// <summary>Turns lambda of sum 1 into weights of the gradients.</summary>
    private protected virtual void Finish(int n, Span<double> weights)
    {
    }

    private protected sealed override void SolveVectors(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        double mass = 0;
        Vectors.HalfProducts(_products);
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                (int first, int second) = (problem.Members[i], problem.Members[j]);
                _cross[(i * n) + j] = TaskWeights[first] * TaskWeights[second] * _products[(first * Tasks) + second];
            }

            weights[i] = _lambda[problem.Members[i]];
            mass += weights[i];
        }

        if (mass <= 0)
        {
            // All the weight is on tasks that are left out now, and they keep it.
            weights.Fill(1.0 / n);
            return;
        }

        Move(_cross.AsSpan(0, n * n), n, mass, weights);
        for (int i = 0; i < n; i++)
        {
            if (double.IsFinite(weights[i]))
                _lambda[problem.Members[i]] = weights[i];
            weights[i] /= mass;
        }

        Finish(n, weights);
    }

    private protected override void SaveMethod(Dictionary<string, IReadOnlyList<double>> state) => state.Add(LambdaKey, [.. _lambda]);

    private protected override void LoadMethod(IReadOnlyDictionary<string, IReadOnlyList<double>> state) => Take(state, LambdaKey, _lambda);
}

/// <summary>
/// MoDo: lambda = P(lambda - beta (G1 G2^T lambda + rho lambda)) (Chen et al., <i>Three-Way Trade-Off in Multi-Objective Learning</i>, NeurIPS 2023, algorithm 1).
/// </summary>
internal sealed class ModoBalancer(string name, BalancerSettings settings) : DoubleSamplingBalancer(name, settings)
{
    private readonly double _step = settings.Description.Beta ?? 1e-3;
    private readonly double _rho = settings.Description.Rho ?? 0.1;
    private readonly double[] _next = new double[settings.Tasks];
    private readonly double[] _scratch = new double[settings.Tasks];

    private protected override void Move(ReadOnlySpan<double> cross, int n, double mass, Span<double> lambda)
    {
        for (int i = 0; i < n; i++)
            _next[i] = lambda[i] - (_step * (TensorPrimitives.Dot(cross.Slice(i * n, n), lambda) + (_rho * lambda[i])));
        _next.AsSpan(0, n).CopyTo(lambda);
        SimplexProjection.Project(lambda, _scratch, mass);
    }
}

/// <summary>
/// SDMGrad: the least norm of g_w + rho g0 over the simplex, by twenty projected steps of momentum 0.5 on G1 G2^T (w + rho / K); d = (g_w + rho g0) / (1 + rho), g0 the mean gradient
/// (Xiao, Ban and Ji, NeurIPS 2023, algorithm 1).
/// </summary>
internal sealed class SdmgradBalancer(string name, BalancerSettings settings) : DoubleSamplingBalancer(name, settings)
{
    private const int Rounds = 20;
    private const double Momentum = 0.5;

    private readonly double _step = settings.Description.Beta ?? 5;
    private readonly double _rho = settings.Description.Rho ?? 0.3;
    private readonly double[] _gradient = new double[settings.Tasks];
    private readonly double[] _velocity = new double[settings.Tasks];
    private readonly double[] _scratch = new double[settings.Tasks];

    private protected override void Move(ReadOnlySpan<double> cross, int n, double mass, Span<double> lambda)
    {
        Span<double> velocity = _velocity.AsSpan(0, n);
        velocity.Clear();
        for (int round = 0; round < Rounds; round++)
        {
            for (int i = 0; i < n; i++)
            {
                _gradient[i] = 0;
                for (int j = 0; j < n; j++)
                    _gradient[i] += cross[(i * n) + j] * (lambda[j] + (_rho * mass / n));
            }

            for (int i = 0; i < n; i++)
            {
                velocity[i] = (Momentum * velocity[i]) + _gradient[i];
                lambda[i] -= _step * velocity[i];
            }

            SimplexProjection.Project(lambda, _scratch, mass);
        }
    }

    private protected override void Finish(int n, Span<double> weights)
    {
        for (int i = 0; i < n; i++)
            weights[i] = (weights[i] + (_rho / n)) / (1 + _rho);
    }
}
