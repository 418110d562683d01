using CudaMoE.Description;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>
/// What lies between the input block and the towers. It ends in the representation: one row a sample that all towers read (shared), or one
/// part a task, side by side.
/// </summary>
internal abstract class Trunk
{
    /// <summary>[rows, width] when shared, else [rows, tasks * width].</summary>
    public abstract Slot Representation { get; }

    /// <summary>Where the towers write the gradient of <see cref="Representation"/>, before the activation that made it (see <see cref="Factor"/>).</summary>
    public abstract Slot RepresentationGradient { get; }

    /// <summary>What the derivative of the representation's activation is taken from; null when no activation made it.</summary>
    public abstract Slot? Factor { get; }

    public abstract ActivationKind Activation { get; }

    /// <summary>Whether all towers read the same row.</summary>
    public abstract bool Shared { get; }

    /// <summary>Width of what a tower reads.</summary>
    public abstract int Width { get; }

    /// <summary>Gates of a single-level mixture; null in other models.</summary>
    public virtual Gate? Gate => null;

    /// <summary>Gates before the towers; 0 in models without.</summary>
    public virtual int GateCount => Gate?.Gates ?? 0;

    /// <summary>Experts that these gates weigh.</summary>
    public virtual int ExpertCount => Gate?.Experts ?? 0;

    /// <summary>[gates, experts] sums of their weights over the <paramref name="rows"/> of the last forward.</summary>
    public virtual ReadOnlySpan<double> GateSums(long rows) => Gate == null ? [] : Gate.ProbabilitySums;

    /// <summary>Rows that the gates weigh for each sample.</summary>
    public virtual int GateRowsPerSample => 1;

    /// <summary>Pairs of the last batch that found no place, [experts]; empty in models without a sparse mixture.</summary>
    public virtual ReadOnlySpan<long> DroppedPairs => Routing == null ? [] : Routing.Dropped;

    /// <summary>Routing of a sparse mixture; null in other models.</summary>
    public virtual Routing? Routing => null;

    /// <summary>
    /// The parameters that only one task's tower reads, such as its own gate before it, so that no other task has a gradient on them. Where all below
    /// the towers is shared, none.
    /// </summary>
    public virtual IEnumerable<TaskParameters> OwnOfTasks => [];

    /// <summary>Whether the gates' own losses take part in <see cref="Backward"/>; they do from the start.</summary>
    public virtual bool AuxiliaryLosses { get; set; } = true;

    /// <summary>Whether <see cref="BackwardInputOf"/> gives the tasks' gradients on the trunk's input one by one.</summary>
    public virtual bool SplitsInputGradient => false;

    /// <summary>Initial values that layers set themselves.</summary>
    public virtual void Initialize()
    {
    }

    public abstract void Pack();

    /// <summary>Runs it; <paramref name="step"/> below 0 means evaluation (no gate noise).</summary>
    public abstract void Forward(long rows, long step);

    /// <summary>
    /// From <see cref="RepresentationGradient"/> to the parameters' gradients and the gradient of the trunk's input. When the representation is one
    /// part a task, part t is multiplied by <paramref name="taskWeights"/>[t] first (null = 1; device memory); a shared one is combined already.
    /// </summary>
    public abstract unsafe void Backward(long rows, long step, float* taskWeights);

    /// <summary>Gradients of the trunk's parameters alone, each task's part multiplied by its weight (null = 1); losses of the gates take part.</summary>
    public virtual unsafe void BackwardParameters(long rows, long step, float* taskWeights) => throw Whole();

    /// <summary>
    /// The gradient on the trunk's input alone, written to <paramref name="target"/>, for the weighted sum of the tasks' gradients; neither parameters nor
    /// losses of the gates take part.
    /// </summary>
    public virtual unsafe void BackwardInputOf(long rows, long step, float* taskWeights, Slot target) => throw Whole();

    /// <summary>The gradient of the gates' own losses on the trunk's input; only for trunks whose gates have some.</summary>
    public virtual void BackwardAuxiliary(LayerContext context, long rows, long step, Slot target) => throw Whole();

    private NotSupportedException Whole() => new($"{GetType().Name} gives the gradient of its input only as a whole");
}

/// <summary>Parameters by the beginning of their names: of each the first <paramref name="Leading"/> of <paramref name="Parts"/> equal parts.</summary>
/// <param name="Prefix">The beginning of the names.</param>
/// <param name="Leading">Parts that are meant.</param>
/// <param name="Parts">Parts that a parameter has.</param>
internal readonly record struct TaskParameters(string Prefix, int Leading = 1, int Parts = 1);
