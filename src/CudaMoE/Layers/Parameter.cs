using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>What a parameter is.</summary>
public enum ParameterKind
{
    /// <summary>A weight matrix, [out, in], or [expert, out, in].</summary>
    Weight,

    /// <summary>A bias, [out] or [expert, out].</summary>
    Bias,

    /// <summary>Scale or shift of a normalisation, [width].</summary>
    Norm,

    /// <summary>An embedding table, [rows, dimension].</summary>
    Embedding,

    /// <summary>A table that is looked up and not trained, [rows, width].</summary>
    Frozen,

    /// <summary>Weights that mix experts or tasks, the same for every sample: [task, own experts] or [task, task].</summary>
    Mixing,
}

/// <summary>A trained tensor: its stable, dotted name, its shape, and its place in device memory. Row-major, without gaps.</summary>
public sealed class Parameter
{
    private readonly Func<nint> _value;
    private readonly Func<nint> _gradient;
    private readonly Func<nint> _state1;
    private readonly Func<nint> _state2;

    internal Parameter(
        string name,
        ParameterKind kind,
        ElementType type,
        IReadOnlyList<long> shape,
        Func<nint> value,
        Func<nint> gradient,
        Func<nint> state1,
        Func<nint> state2)
    {
        Name = name;
        Kind = kind;
        Type = type;
        Shape = shape;
        Count = shape.Aggregate(1L, (a, b) => checked(a * b));
        _value = value;
        _gradient = gradient;
        _state1 = state1;
        _state2 = state2;
    }

    /// <summary>For example <c>experts.layers.0.weight</c>.</summary>
    public string Name { get; }

    /// <summary>What it is.</summary>
    public ParameterKind Kind { get; }

    /// <summary>Storage type of the value; gradients and optimiser states are f32.</summary>
    public ElementType Type { get; }

    /// <summary>Sizes, outermost first.</summary>
    public IReadOnlyList<long> Shape { get; }

    /// <summary>Number of elements.</summary>
    public long Count { get; }

    /// <summary>
    /// Device address of the values. Of an embedding table in host memory, the host's address as well; asking for it queues the write-back of rows that the device
    /// holds in a cache, so it is asked for again after each forward or step.
    /// </summary>
    public nint Value => _value();

    /// <summary>Device address of the gradient; 0 for embedding tables and in models that are not for training.</summary>
    public nint Gradient => _gradient();

    /// <summary>Number of f32 elements of the first optimiser state; 0 for none.</summary>
    public long State1Count { get; internal set; }

    /// <summary>Number of f32 elements of the second optimiser state; 0 for none.</summary>
    public long State2Count { get; internal set; }

    /// <summary>Whether values and states lie in host memory that stands for device memory.</summary>
    public bool OnHost { get; internal init; }

    internal nint State1 => State1Count == 0 ? 0 : _state1();

    internal nint State2 => State2Count == 0 ? 0 : _state2();

    /// <inheritdoc/>
    public override string ToString() => $"{Name} [{string.Join(", ", Shape)}]";
}
