using CudaMoE.Description;

namespace CudaMoE.Balancing;

/// <summary>
/// MoCo: least norm with gradients tracked over steps against the bias of single batches (Fernando et al., ICLR 2023, algorithm 1): y_t moves to g_t at rate gamma / sqrt(k), then
/// lambda = P(lambda - beta / sqrt(k) (Y Y^T + rho I) lambda).
/// </summary>
/// <remarks>
/// The paper tracks gradients of the shared parameters and steps along Y^T lambda. Here lambda weights this step's gradients, and on a representation y tracks the column sums: gradients
/// there cannot be averaged over batches.
/// </remarks>
internal sealed class MocoBalancer : ColumnBalancer
{
    private const string LambdaKey = "lambda";

    private readonly double _rate;
    private readonly double _step;
    private readonly double _rho;
    private readonly bool _normalize;
    private readonly bool _softmax;
    private readonly double[] _lambda;
    private readonly double[] _products;
    private readonly double[] _scratch;
    private readonly bool[] _used;
    private readonly double[] _keep;
    private readonly double[] _rates;
    private double _rounds;

    public MocoBalancer(string name, BalancerSettings settings)
        : base(name, settings, sums: false)
    {
        BalancerDescription description = settings.Description;
        _rate = description.Gamma ?? 0.5;
        _step = description.Beta ?? 0.1;
        _rho = description.Rho ?? 0;
        _normalize = (description.Normalize ?? GradientNormalization.LossNorm) == GradientNormalization.LossNorm;
        _softmax = description.Simplex == SimplexMap.Softmax;
        _lambda = new double[settings.Tasks];
        Array.Fill(_lambda, 1d / settings.Tasks);
        _keep = new double[settings.Tasks];
        _rates = new double[settings.Tasks];
        _products = new double[settings.Tasks];
        _scratch = new double[settings.Tasks];
        _used = new bool[settings.Tasks];
        Array.Fill(_used, true);
    }

    private protected override ColumnKind Columns => ColumnKind.Sum;

    private protected override void SolveVectors(in GramProblem problem, Span<double> weights)
    {
        int n = problem.Count;
        double root = Math.Sqrt(++_rounds);
        double rate = Math.Min(1, _rate / root);
        Array.Fill(_keep, 1);
        Array.Clear(_rates);
        foreach (int task in problem.Members)
        {
            double length = LengthOf(task);
            double factor = !_normalize ? 1 : length > 0 ? Losses[task] / length : 0;
            _keep[task] = 1 - rate;
            _rates[task] = rate * factor * TaskWeights[task];
        }

        Vectors.Track(_keep, _rates);
        double mass = 0;
        for (int i = 0; i < n; i++)
        {
            double product = _rho * _lambda[problem.Members[i]];
            for (int j = 0; j < n; j++)
                product += Vectors.TrackedProduct(problem.Members[i], problem.Members[j]) * _lambda[problem.Members[j]];
            mass += _lambda[problem.Members[i]];
            _products[i] = product;
        }

        for (int i = 0; i < n; i++)
            weights[i] = _lambda[problem.Members[i]] - (_step / root * _products[i]);
        if (_softmax)
        {
            Softmax.Apply(weights, _used.AsSpan(0, n));
            for (int i = 0; i < n; i++)
                weights[i] *= mass;
        }
        else
        {
            SimplexProjection.Project(weights, _scratch, mass);
        }

        // Tasks that are left out keep their share, be it all of it; what goes out has sum 1.
        for (int i = 0; i < n; i++)
        {
            _lambda[problem.Members[i]] = weights[i];
            weights[i] = mass > 0 ? weights[i] / mass : 1.0 / n;
        }
    }

    private protected override void SaveMethod(Dictionary<string, IReadOnlyList<double>> state) => state.Add(LambdaKey, [.. _lambda, _rounds]);

    private protected override void LoadMethod(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        IReadOnlyList<double> values = Take(state, LambdaKey, Tasks + 1);
        for (int task = 0; task < Tasks; task++)
            _lambda[task] = values[task];
        _rounds = values[Tasks];
    }
}
