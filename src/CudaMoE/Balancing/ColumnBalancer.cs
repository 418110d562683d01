namespace CudaMoE.Balancing;

/// <summary>
/// The frame of methods that keep or compare gradient vectors from step to step. The gradients themselves have a row a sample, and no row of one batch belongs to one of the
/// next; their sums over rows (<see cref="ColumnKind"/>), the gradient of a bias on the representation, do.
/// </summary>
internal abstract class ColumnBalancer(string name, BalancerSettings settings, bool sums) : CompactGramBalancer(name, settings.Description, settings.TaskWeights, sums)
{
    private const string WidthKey = "width";

    private double[] _vectors = [];

    /// <summary>Columns of a gradient; 0 before the first evaluation.</summary>
    private protected int Width { get; private set; }

    /// <summary>Vectors a task: 2 with <see cref="ColumnKind.Halves"/>.</summary>
    private protected int Parts => NeedsColumns == ColumnKind.Halves ? 2 : 1;

    /// <summary>The method, with the vectors of the tasks that take part.</summary>
    private protected abstract void SolveColumns(in GramProblem problem, Span<double> weights);

    /// <summary>Makes room for vectors of this width.</summary>
    private protected virtual void Resize(int width)
    {
    }

    /// <summary>Adds what is kept beside the width.</summary>
    private protected virtual void SaveVectors(Dictionary<string, IReadOnlyList<double>> state)
    {
    }

    private protected virtual void LoadVectors(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
    }

    private protected sealed override void Solve(in GramProblem problem, Span<double> weights)
    {
        int tasks = Tasks;
        int width = problem.Columns.Length / (tasks * Parts);
        if (width == 0 || width * tasks * Parts != problem.Columns.Length || (Width > 0 && width != Width))
            throw new ArgumentException($"columns has {problem.Columns.Length} entries; it must have {Parts} x {tasks} x the gradients' width{(Width > 0 ? $", {Width}" : "")}");
        if (Width == 0)
            SetWidth(width);
        int n = problem.Count;
        for (int part = 0; part < Parts; part++)
        {
            for (int i = 0; i < n; i++)
            {
                int task = problem.Members[i];
                ReadOnlySpan<double> source = problem.Columns.Slice(((part * tasks) + task) * width, width);
                Span<double> vector = _vectors.AsSpan(((part * tasks) + i) * width, width);
                for (int k = 0; k < width; k++)
                    vector[k] = TaskWeights[task] * source[k];
            }
        }

        SolveColumns(problem, weights);
    }

    private protected sealed override void SaveOwn(Dictionary<string, IReadOnlyList<double>> state)
    {
        base.SaveOwn(state);
        state.Add(WidthKey, [Width]);
        if (Width > 0)
            SaveVectors(state);
    }

    private protected sealed override void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        base.LoadOwn(state);
        int width = (int)Take(state, WidthKey, 1)[0];
        if (width <= 0)
            return;
        SetWidth(width);
        LoadVectors(state);
    }

    /// <summary>The vector of the i-th task that takes part, its own weight applied.</summary>
    private protected ReadOnlySpan<double> Vector(int i, int part = 0) => _vectors.AsSpan(((part * Tasks) + i) * Width, Width);

    private protected static double Dot(ReadOnlySpan<double> first, ReadOnlySpan<double> second)
    {
        double sum = 0;
        for (int k = 0; k < first.Length; k++)
            sum += first[k] * second[k];
        return sum;
    }

    private void SetWidth(int width)
    {
        Width = width;
        _vectors = new double[Parts * Tasks * width];
        Resize(width);
    }
}
