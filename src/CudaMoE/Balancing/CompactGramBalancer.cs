using CudaMoE.Description;

namespace CudaMoE.Balancing;

/// <summary>The frame of methods that solve a problem in the Gram matrix of the tasks that take part: gathers that matrix and scatters the answer.</summary>
public abstract class CompactGramBalancer : GramBalancer
{
    private readonly double[] _gram;
    private readonly double[] _cosines;
    private readonly double[] _norms;
    private readonly double[] _weights;
    private readonly int[] _members;
    private readonly bool _sums;

    /// <param name="name">The name in descriptions and logs.</param>
    /// <param name="description">Its constants.</param>
    /// <param name="taskWeights">The factor of each task's loss.</param>
    /// <param name="sums">Whether the method's own weights are those of a sum (equal tasks have 1 each) rather than of a mean (1 / count each).</param>
    private protected CompactGramBalancer(string name, BalancerDescription description, IReadOnlyList<double> taskWeights, bool sums)
        : base(name, taskWeights, description.Every, description.Floor, description.TimesTasks)
    {
        int tasks = taskWeights.Count;
        _gram = new double[tasks * tasks];
        _cosines = new double[tasks * tasks];
        _norms = new double[tasks];
        _weights = new double[tasks];
        _members = new int[tasks];
        _sums = sums;
    }

    /// <summary>The method.</summary>
    /// <param name="problem">The tasks that take part, n of them.</param>
    /// <param name="weights">Receives n weights; a NaN asks for equal weights.</param>
    private protected abstract void Solve(in GramProblem problem, Span<double> weights);

    private protected sealed override double Solve(in BalancerInput input, Span<double> lambda, Span<double> scale)
    {
        int tasks = Tasks;
        int count = 0;
        for (int i = 0; i < tasks; i++)
        {
            if (Usable[i])
                _members[count++] = i;
        }

        for (int i = 0; i < count; i++)
        {
            _norms[i] = Diagnostics.Norms[_members[i]];
            for (int j = 0; j < count; j++)
            {
                int entry = (_members[i] * tasks) + _members[j];
                _gram[(i * count) + j] = Gram[entry];
                _cosines[(i * count) + j] = Diagnostics.Cosines[entry];
            }
        }

        Span<double> weights = _weights.AsSpan(0, count);
        GramProblem problem = new(_gram.AsSpan(0, count * count), _cosines.AsSpan(0, count * count), _norms.AsSpan(0, count), _members.AsSpan(0, count), input.Columns);
        Solve(problem, weights);
        lambda.Clear();
        for (int i = 0; i < count; i++)
            lambda[_members[i]] = _sums ? weights[i] / count : weights[i];
        return TimesTasks ? count : 1;
    }

    /// <summary>What a method sees: inner products, cosines and norms of n gradients, and which tasks they are of.</summary>
    private protected readonly ref struct GramProblem(
        ReadOnlySpan<double> gram, ReadOnlySpan<double> cosines, ReadOnlySpan<double> norms, ReadOnlySpan<int> members, ReadOnlySpan<double> columns)
    {
        /// <summary>n.</summary>
        public int Count => Norms.Length;

        /// <summary>n * n inner products, row-major.</summary>
        public ReadOnlySpan<double> Gram { get; } = gram;

        /// <summary>n * n cosines.</summary>
        public ReadOnlySpan<double> Cosines { get; } = cosines;

        /// <summary>n lengths, above 0.</summary>
        public ReadOnlySpan<double> Norms { get; } = norms;

        /// <summary>The tasks, ascending.</summary>
        public ReadOnlySpan<int> Members { get; } = members;

        /// <summary>Sums of the columns of all tasks' gradients, without their own weights; empty when they were not asked for.</summary>
        public ReadOnlySpan<double> Columns { get; } = columns;
    }
}
