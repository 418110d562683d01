using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>
/// For inference: the mixtures of two-layer experts in one operation, y[b, t, :] = sum over the choices of gate t, of gate weight times expert(x[b]).
/// Neither hidden rows nor the experts' outputs are activations of the model; the work space has room for a piece of them. The bits are those of
/// <see cref="GroupedMlp"/> and <see cref="Combine"/> where both multiply by the same instruction. Mixtures of chosen experts have no capacity: every pair is computed.
/// </summary>
internal sealed unsafe class ExpertMix
{
    private readonly LayerContext _context;
    private readonly GroupedMlpPlan _experts;
    private readonly Gate _gate;
    private readonly ExpertLayer[] _layers;
    private ExpertMixArgs _args;

    /// <param name="context">A context that does not train.</param>
    /// <param name="name">Prefix of the buffers' names.</param>
    /// <param name="experts">Experts of two layers that all read the same rows, as a <see cref="GroupedMlp"/> would have them.</param>
    /// <param name="gate">What weighs them.</param>
    public ExpertMix(LayerContext context, string name, GroupedMlpPlan experts, Gate gate)
    {
        _context = context;
        _experts = experts;
        _gate = gate;
        _layers = [.. experts.Widths.Select((n, i) => new ExpertLayer(context, experts, i, n, i == 0 ? experts.InputWidth : experts.Widths[i - 1]))];
        Output = context.Reserve($"{name}.output", (long)gate.Gates * OutputWidth);
        context.OnBind(Bind);
    }

    /// <summary>[rows, gates * width].</summary>
    public Slot Output { get; }

    public int OutputWidth => _experts.Widths[^1];

    public void Pack()
    {
        foreach (ExpertLayer layer in _layers)
            layer.Packed.Pack(layer.Weight.Value);
    }

    /// <summary>Mixes the first <paramref name="rows"/> rows by the weights of the gate's last pass.</summary>
    public void Forward(long rows)
    {
        _args.Rows = rows;
        _args.Workspace = (void*)_context.Workspace;
        _args.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (ExpertMixArgs* args = &_args)
            NativeStatus.Check(NativeMethods.ExpertMix(_context.Stream.Native, args));
    }

    private void Bind()
    {
        (ExpertLayer first, ExpertLayer second) = (_layers[0], _layers[1]);
        _args = new()
        {
            StructSize = (uint)sizeof(ExpertMixArgs),
            Experts = _experts.Groups,
            Tasks = _gate.Gates,
            Choices = _gate.Choices,
            Rows = _context.MaxRows,
            N = second.N,
            Hidden = first.N,
            K = _experts.InputWidth,
            X = _experts.X.Data,
            XRowStride = _experts.X.RowStride,
            Packed1 = first.Packed.Data,
            Packed2 = second.Packed.Data,
            Bias1 = first.Bias == null ? null : first.Bias.Value,
            Bias1GroupStride = first.N,
            Bias2 = second.Bias == null ? null : second.Bias.Value,
            Bias2GroupStride = second.N,
            Gates = _gate.Output.Data,
            Chosen = _gate.Sparse ? (int*)_gate.ChosenPointer : null,
            Y = Output.Data,
            YRowStride = Output.RowStride,
            YTaskStride = second.N,
            PackedDtype = first.Packed.Type,
            HiddenActivation = (int)_experts.Activation,
            OutputActivation = _experts.ActivateLast ? (int)_experts.Activation : 0,
            ActivationSlope = _context.ActivationSlope,
        };
        long bytes;
        fixed (ExpertMixArgs* args = &_args)
            NativeStatus.Check(NativeMethods.ExpertMixWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }

    private sealed class ExpertLayer(LayerContext context, GroupedMlpPlan experts, int layer, long n, long k)
    {
        public long N => n;

        public ParameterBlock Weight { get; } = GroupedMlp.AddWeight(context, experts, layer, n, k);

        public ParameterBlock? Bias { get; } = GroupedMlp.AddBias(context, experts, layer, n);

        public PackedMatrix Packed { get; } = new(context, "linear", n, k, groups: experts.Groups);
    }
}
