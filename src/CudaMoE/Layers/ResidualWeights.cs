namespace CudaMoE.Layers;

/// <summary>Weights of a combination that are the same for every sample, [sums, choices]; they are added to the gates' weights.</summary>
internal abstract unsafe class ResidualWeights
{
    /// <summary>[sums, choices] without gaps.</summary>
    public abstract float* Value { get; }

    /// <summary>Where their gradient is to be written; null where they are constants.</summary>
    public abstract float* Gradient { get; }

    /// <summary>Brings <see cref="Value"/> up to date; after every change of the parameters.</summary>
    public virtual void Pack()
    {
    }

    /// <summary>From <see cref="Gradient"/> to the parameters' gradients.</summary>
    public virtual void StoreGradients()
    {
    }

    /// <summary>Initial values other than those drawn by <see cref="ParameterKind.Mixing"/>.</summary>
    public virtual void Initialize()
    {
    }
}

/// <summary>A trained matrix [tasks, tasks] that mixes the outputs of the tasks' networks (cross-stitch, Misra et al., CVPR 2016).</summary>
internal sealed unsafe class StitchWeights : ResidualWeights
{
    private readonly LayerContext _context;
    private readonly int _tasks;
    private readonly double? _ownWeight;
    private readonly ParameterBlock _block;

    /// <param name="context">The context.</param>
    /// <param name="name">Name of the parameter.</param>
    /// <param name="tasks">Tasks.</param>
    /// <param name="ownWeight">First weight of a task's own network, the others share the rest equally; null = drawn.</param>
    public StitchWeights(LayerContext context, string name, int tasks, double? ownWeight)
    {
        _context = context;
        _tasks = tasks;
        _ownWeight = ownWeight;
        _block = context.Parameters.Add(name, ParameterKind.Mixing, tasks, tasks);
    }

    public override float* Value => _block.Value;

    public override float* Gradient => _context.Training ? _block.Gradient : null;

    public override void Initialize()
    {
        if (_ownWeight is not { } own)
            return;
        float[] values = new float[_tasks * _tasks];
        Array.Fill(values, (float)((1 - own) / Math.Max(1, _tasks - 1)));
        for (int t = 0; t < _tasks; t++)
            values[(t * _tasks) + t] = _tasks == 1 ? 1 : (float)own;
        _context.Stream.CopyToDevice<float>(values, (nint)Value);
    }
}

/// <summary>
/// Weights of each unit's own experts, 0 for all others (AdaTT's NativeExpertLF, Li et al., KDD 2023, section 4.2): constants 1, or trained. The
/// parameters hold the own experts only; they are copied into the full matrix.
/// </summary>
internal sealed unsafe class NativeWeights : ResidualWeights
{
    private readonly LayerContext _context;
    private readonly int _sums;
    private readonly int _experts;
    private readonly List<(ParameterBlock Source, long SourceFirst, long First, long Count)> _parts = [];
    private readonly bool _trained;
    private nint _value;
    private nint _gradient;

    /// <param name="context">The context.</param>
    /// <param name="prefix">Prefix of the parameters' names.</param>
    /// <param name="units">Experts of each unit: the tasks' units, all of one size, then possibly a shared one.</param>
    /// <param name="tasks">Units of tasks.</param>
    /// <param name="sums">Units whose outputs are combined: all, or those of the tasks.</param>
    /// <param name="trained">Trained weights, or the constant 1.</param>
    public NativeWeights(LayerContext context, string prefix, IReadOnlyList<int> units, int tasks, int sums, bool trained)
    {
        _context = context;
        _sums = sums;
        _experts = units.Sum();
        _trained = trained;
        ParameterBlock? own = trained ? context.Parameters.Add($"{prefix}.native.weight", ParameterKind.Mixing, tasks, units[0]) : null;
        ParameterBlock? shared = trained && sums > tasks ? context.Parameters.Add($"{prefix}.native_shared.weight", ParameterKind.Mixing, units[tasks]) : null;
        long first = 0;
        for (int unit = 0; unit < sums; unit++)
        {
            (ParameterBlock? source, long sourceFirst) = unit < tasks ? (own, (long)unit * units[unit]) : (shared, 0);
            _parts.Add((source!, sourceFirst, ((long)unit * _experts) + first, units[unit]));
            first += units[unit];
        }

        long bytes = (long)sums * _experts * sizeof(float);
        context.Activations.Reserve($"{prefix}.native.value", bytes, p => _value = p);
        if (trained && context.Training)
            context.Activations.Reserve($"{prefix}.native.gradient", bytes, p => _gradient = p);
        context.OnBind(Bind);
    }

    public override float* Value => (float*)_value;

    public override float* Gradient => (float*)_gradient;

    public override void Pack()
    {
        if (!_trained)
            return;
        foreach ((ParameterBlock source, long sourceFirst, long first, long count) in _parts)
            _context.Stream.CopyOnDevice((nint)(source.Value + sourceFirst), (nint)(Value + first), count * sizeof(float));
    }

    public override void StoreGradients()
    {
        if (!_trained)
            return;
        foreach ((ParameterBlock source, long sourceFirst, long first, long count) in _parts)
            _context.Stream.CopyOnDevice((nint)(Gradient + first), (nint)(source.Gradient + sourceFirst), count * sizeof(float));
    }

    private void Bind()
    {
        float[] values = new float[_sums * _experts];
        if (!_trained)
        {
            foreach ((_, _, long first, long count) in _parts)
                values.AsSpan((int)first, (int)count).Fill(1);
        }

        _context.Stream.CopyToDevice<float>(values, _value);
    }
}
