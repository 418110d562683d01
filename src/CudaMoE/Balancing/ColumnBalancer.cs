using CudaMoE.Description;

namespace CudaMoE.Balancing;

/// <summary>
/// The frame of methods that keep or compare gradient vectors from step to step. Of gradients of shared parameters these are the gradients themselves. The gradients on a representation
/// have a row a sample, and no row of one batch belongs to one of the next; their sums over rows (<see cref="ColumnKind"/>), the gradient of a bias on the representation, do.
/// </summary>
internal abstract class ColumnBalancer : CompactGramBalancer
{
    private readonly ColumnVectors? _columns;

    private protected ColumnBalancer(string name, BalancerSettings settings, bool sums)
        : base(name, settings.Description, settings.TaskWeights, sums)
    {
        _columns = settings.Vectors == null ? new(settings.Tasks, BalancerFacts.Of(settings.Description.Type).Vectors) : null;
        Vectors = settings.Vectors ?? _columns!;
    }

    /// <inheritdoc/>
    public sealed override ColumnKind NeedsColumns => _columns == null ? ColumnKind.None : Columns;

    /// <summary>Which sums the method takes of a representation's gradients.</summary>
    private protected abstract ColumnKind Columns { get; }

    /// <summary>The gradients of all tasks; their own weights are not applied.</summary>
    private protected IGradientVectors Vectors { get; }

    /// <summary>Columns of a representation's gradient; 0 before the first evaluation.</summary>
    private protected int Width => _columns?.Width ?? 0;

    /// <summary>The method, with the vectors of the tasks that take part.</summary>
    private protected abstract void SolveVectors(in GramProblem problem, Span<double> weights);

    /// <summary>Adds what the method keeps beside the vectors.</summary>
    private protected virtual void SaveMethod(Dictionary<string, IReadOnlyList<double>> state)
    {
    }

    private protected virtual void LoadMethod(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
    }

    private protected sealed override void Solve(in GramProblem problem, Span<double> weights)
    {
        _columns?.Set(problem.Columns);
        SolveVectors(problem, weights);
    }

    private protected sealed override void SaveOwn(Dictionary<string, IReadOnlyList<double>> state)
    {
        base.SaveOwn(state);
        Vectors.Save(state);
        SaveMethod(state);
    }

    private protected sealed override void LoadOwn(IReadOnlyDictionary<string, IReadOnlyList<double>> state)
    {
        base.LoadOwn(state);
        Vectors.Load((key, count) => Take(state, key, count));
        LoadMethod(state);
    }

    /// <summary>Sums of the columns of a task's gradient, without its own weight.</summary>
    private protected ReadOnlySpan<double> ColumnsOf(int task) => _columns!.Vector(task);

    /// <summary>Length of a task's vector, its own weight applied.</summary>
    private protected double LengthOf(int task) => TaskWeights[task] * Vectors.Length(task);
}
