namespace CudaMoE.Balancing;

/// <summary>A few numbers trained by Adam (Kingma and Ba 2015): what a balancer learns beside the model.</summary>
internal sealed class AdamVector
{
    private const double Beta1 = 0.9;
    private const double Beta2 = 0.999;
    private const double Epsilon = 1e-8;

    private readonly string _key;
    private readonly double _rate;
    private readonly double _decay;
    private readonly double[] _values;
    private readonly double[] _first;
    private readonly double[] _second;
    private readonly double[] _steps;

    /// <param name="key">Name of the state's entry.</param>
    /// <param name="count">How many numbers.</param>
    /// <param name="start">Their first value.</param>
    /// <param name="rate">Learning rate.</param>
    /// <param name="decay">Pull to 0, added to the gradient times the value.</param>
    public AdamVector(string key, int count, double start, double rate, double decay = 0)
    {
        _key = key;
        _rate = rate;
        _decay = decay;
        _values = new double[count];
        _first = new double[count];
        _second = new double[count];
        _steps = new double[count];
        Array.Fill(_values, start);
    }

    public ReadOnlySpan<double> Values => _values;

    /// <summary>Steps one number against its gradient; each has its own count of steps, since a task may miss some.</summary>
    public void Step(int index, double gradient)
    {
        if (!double.IsFinite(gradient))
            return;
        gradient += _decay * _values[index];
        _first[index] += (1 - Beta1) * (gradient - _first[index]);
        _second[index] += (1 - Beta2) * ((gradient * gradient) - _second[index]);
        double steps = ++_steps[index];
        double first = _first[index] / (1 - Math.Pow(Beta1, steps));
        double second = _second[index] / (1 - Math.Pow(Beta2, steps));
        _values[index] -= _rate * first / (Math.Sqrt(second) + Epsilon);
    }


    public string Key => _key;

    public int StateLength => 4 * _values.Length;

    public void Save(Dictionary<string, IReadOnlyList<double>> state) => state.Add(_key, [.. _values, .. _first, .. _second, .. _steps]);

    public void Load(IReadOnlyList<double> state)
    {
        int count = _values.Length;
        for (int i = 0; i < count; i++)
        {
            _values[i] = state[i];
            _first[i] = state[count + i];
            _second[i] = state[(2 * count) + i];
            _steps[i] = state[(3 * count) + i];
        }
    }
}
