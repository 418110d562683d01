using CudaMoE.Description;
using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>A block of a dense parameter's memory: offset and size in f32 elements, the same in values, gradients and states.</summary>
/// <param name="Owner">The set.</param>
/// <param name="Offset">First element.</param>
/// <param name="Count">Elements.</param>
/// <param name="Kind">What the block holds.</param>
internal sealed record ParameterBlock(ParameterSet Owner, long Offset, long Count, ParameterKind Kind)
{
    public unsafe float* Value => (float*)Owner.Values + Offset;

    public unsafe float* Gradient => (float*)Owner.Gradients + Offset;

    public unsafe float* State1 => Owner.State1 == 0 ? null : (float*)Owner.State1 + Offset;

    public unsafe float* State2 => Owner.State2 == 0 ? null : (float*)Owner.State2 + Offset;

    /// <summary>A range of the elements.</summary>
    public ParameterBlock Slice(long first, long count) => this with { Offset = Offset + first, Count = count };
}

/// <summary>
/// All trained tensors of a model. Dense parameters lie in one block of values and, for training, blocks of gradients and optimiser states of
/// the same layout, so that the optimiser and the checkpoint walk them in one go. Embedding tables have blocks of their own.
/// </summary>
internal sealed class ParameterSet : IDisposable
{
    private const long Lane = 16;
    private readonly List<Parameter> _parameters = [];
    private readonly List<ParameterBlock> _blocks = [];
    private readonly List<IDisposable> _memory = [];
    private readonly Device _device;
    private readonly bool _training;
    private readonly OptimizerDescription _optimizer;
    private long _count;

    public ParameterSet(Device device, bool training, OptimizerDescription optimizer)
    {
        _device = device;
        _training = training;
        _optimizer = optimizer;
    }

    /// <summary>All parameters in the order of their making, tables included.</summary>
    public IReadOnlyList<Parameter> All => _parameters;

    public IReadOnlyList<ParameterBlock> Blocks => _blocks;

    /// <summary>Elements of the dense blocks so far, gaps included.</summary>
    public long Count => _count;

    public nint Values { get; private set; }

    public nint Gradients { get; private set; }

    public nint State1 { get; private set; }

    public nint State2 { get; private set; }

    /// <summary>A block with one parameter.</summary>
    public ParameterBlock Add(string name, ParameterKind kind, params long[] shape) => AddGroup([name], kind, shape);

    /// <summary>
    /// A block of equal parts of <paramref name="shape"/>, without gaps: one parameter for each of <paramref name="names"/>.
    /// </summary>
    public ParameterBlock AddGroup(IReadOnlyList<string> names, ParameterKind kind, long[] shape)
    {
        long part = shape.Aggregate(1L, (a, b) => checked(a * b));
        ParameterBlock block = new(this, _count, checked(part * names.Count), kind);
        _count = checked((_count + block.Count + Lane - 1) / Lane * Lane);
        _blocks.Add(block);
        for (int i = 0; i < names.Count; i++)
        {
            nint bytes = (nint)((block.Offset + (i * part)) * sizeof(float));
            Parameter parameter = new(
                names[i],
                kind,
                ElementType.F32,
                shape,
                () => Values + bytes,
                () => Gradients == 0 ? 0 : Gradients + bytes,
                () => State1 + bytes,
                () => State2 + bytes);
            if (_training && _optimizer.Type != OptimizerType.Sgd)
                parameter.State1Count = parameter.Count;
            if (_training && _optimizer.Type == OptimizerType.Sgd && _optimizer.Momentum > 0)
                parameter.State1Count = parameter.Count;
            if (_training && _optimizer.Type == OptimizerType.Adamw)
                parameter.State2Count = parameter.Count;
            _parameters.Add(parameter);
        }

        return block;
    }

    /// <summary>Adds an embedding table, which keeps its own memory.</summary>
    public void AddTable(Parameter table) => _parameters.Add(table);

    /// <summary>Allocates the dense blocks.</summary>
    public void Commit()
    {
        long bytes = checked(_count * sizeof(float));
        Values = Allocate(bytes);
        if (!_training)
            return;
        Gradients = Allocate(bytes);
        if (_optimizer.Type != OptimizerType.Sgd || _optimizer.Momentum > 0)
            State1 = Allocate(bytes);
        if (_optimizer.Type == OptimizerType.Adamw)
            State2 = Allocate(bytes);
    }

    public void Dispose()
    {
        foreach (IDisposable block in _memory)
            block.Dispose();
        _memory.Clear();
    }

    private nint Allocate(long bytes)
    {
        DeviceBuffer buffer = _device.Allocate(bytes);
        _memory.Add(buffer);
        return buffer.Pointer;
    }
}
