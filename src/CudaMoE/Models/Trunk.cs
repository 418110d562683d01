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

    /// <summary>Gates of a mixture; null in other models.</summary>
    public virtual Gate? Gate => null;

    /// <summary>Routing of a sparse mixture; null in other models.</summary>
    public virtual Routing? Routing => null;

    public abstract void Pack();

    /// <summary>Runs it; <paramref name="step"/> below 0 means evaluation (no gate noise).</summary>
    public abstract void Forward(long rows, long step);

    /// <summary>
    /// From <see cref="RepresentationGradient"/> to the parameters' gradients and the gradient of the trunk's input. When the representation is one
    /// part a task, part t is multiplied by <paramref name="taskWeights"/>[t] first (null = 1; device memory); a shared one is combined already.
    /// </summary>
    public abstract unsafe void Backward(long rows, long step, float* taskWeights);
}
