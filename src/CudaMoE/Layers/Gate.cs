using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>
/// The gates of a mixture, all tasks' in one pass over the input: weights over all experts (dense) or over the chosen ones (sparse).
/// </summary>
internal sealed unsafe class Gate
{
    private readonly LayerContext _context;
    private readonly GateDescription _description;
    private readonly int _gates;
    private readonly int _experts;
    private readonly long _columns;
    private readonly Slot _x;
    private readonly ulong _seed;
    private readonly ParameterBlock _weight;
    private readonly ParameterBlock? _bias;
    private readonly Slot? _logits;
    private readonly Slot _probabilities;
    private readonly Slot? _chosen;
    private readonly Slot? _weights;
    private readonly Slot? _dlogits;
    private readonly PackedMatrix _packed;
    private readonly PackedMatrix? _packedTransposed;
    private readonly HostReadable<long> _counts;
    private readonly HostReadable<double> _sums;
    private readonly HostReadable<double> _zSums;
    private GateForwardArgs _forward;
    private GateBackwardArgs _backward;
    private GemmDgradArgs _dgrad;
    private GemmWgradArgs _wgrad;

    public Gate(LayerContext context, GateDescription description, int gates, int experts, Slot x, ulong seed)
    {
        _context = context;
        _description = description;
        _gates = gates;
        _experts = experts;
        _x = x;
        _seed = seed;
        _columns = (long)gates * experts * (description.Score == ScoreMode.Noisy ? 2 : 1);
        _weight = context.Parameters.Add("gate.weight", ParameterKind.Weight, _columns, x.Columns);
        _bias = description.Bias ? context.Parameters.Add("gate.bias", ParameterKind.Bias, _columns) : null;
        int k = description.TopK ?? 0;
        bool plainSoftmax = k == 0 && description.Score == ScoreMode.SoftmaxTopk && description.ZLoss == 0;
        if (context.Training && !plainSoftmax)
            _logits = context.ReserveExact("gate.logits", _columns);
        _probabilities = context.ReserveExact("gate.probabilities", (long)gates * experts);
        if (k > 0)
        {
            _chosen = context.ReserveExact("gate.chosen", (long)gates * k);
            _weights = context.ReserveExact("gate.weights", (long)gates * k);
        }

        _counts = new(context, "gate.counts", (long)gates * experts);
        _sums = new(context, "gate.sums", (long)gates * experts);
        _zSums = new(context, "gate.z", gates);
        if (context.Training)
        {
            _dlogits = context.ReserveExact("gate.dlogits", _columns);
            OutputGradient = context.ReserveExact("gate.gradient", (long)gates * (k > 0 ? k : experts));
        }

        _packed = new(context, "gate", _columns, x.Columns, alwaysF32: true);
        if (context.Training)
            _packedTransposed = new(context, "gate", _columns, x.Columns, transposed: true, alwaysF32: true);
        context.OnBind(Bind);
    }

    public int Gates => _gates;

    public int Experts => _experts;

    public bool Sparse => _description.TopK != null;

    /// <summary>Choices of a gate: experts when dense, top k when sparse.</summary>
    public int Choices => _description.TopK ?? _experts;

    /// <summary>[rows, gates, choices] the weights of the mixture.</summary>
    public Slot Output => _weights ?? _probabilities;

    /// <summary>[rows, gates, choices] where the gradient of <see cref="Output"/> is to be written.</summary>
    public Slot OutputGradient { get; } = null!;

    public nint ChosenPointer => _chosen!.Pointer;

    public nint WeightsPointer => _weights!.Pointer;

    /// <summary>[gates, experts] sums over the last batch of the probabilities (dense) since the last forward.</summary>
    public ReadOnlySpan<double> ProbabilitySums => _sums.Read();

    /// <summary>[gates, experts] rows of the last batch that chose an expert; zeros for dense gates.</summary>
    public ReadOnlySpan<long> ExpertCounts => _counts.Read();

    /// <summary>The balance and z losses of the last batch, times their coefficients.</summary>
    public double AuxiliaryLoss(long rows)
    {
        double loss = 0;
        if (rows == 0)
            return 0;
        for (int g = 0; g < _gates; g++)
        {
            if (Sparse && _description.BalanceLoss > 0)
            {
                double sum = 0;
                for (int e = 0; e < _experts; e++)
                    sum += ExpertCounts[(g * _experts) + e] / ((double)rows * Choices) * (ProbabilitySums[(g * _experts) + e] / rows);
                loss += _description.BalanceLoss * _experts * sum;
            }

            if (_description.ZLoss > 0)
                loss += _description.ZLoss * _zSums.Read()[g] / rows;
        }

        return loss;
    }

    public void Pack()
    {
        _packed.Pack(_weight.Value);
        _packedTransposed?.Pack(_weight.Value);
    }

    /// <summary>Runs the gates; <paramref name="step"/> below 0 means without noise.</summary>
    public void Forward(long rows, long step)
    {
        _forward.Rows = rows;
        _forward.Step = step;
        _forward.Numbers = Noise(step);
        _forward.Workspace = (void*)_context.Workspace;
        _forward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (GateForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.GateForward(_context.Stream.Native, args));
        _counts.Written();
        _sums.Written();
        _zSums.Written();
    }

    /// <summary>From <see cref="OutputGradient"/> to the gradient of the logits, and the parameters' gradients.</summary>
    public void BackwardWeights(long rows, long step, bool weights = true, bool auxiliary = true)
    {
        _backward.Rows = rows;
        _backward.Step = step;
        _backward.Numbers = Noise(step);
        _backward.BalanceCoefficient = auxiliary ? _description.BalanceLoss : 0;
        _backward.ZCoefficient = auxiliary ? _description.ZLoss : 0;
        fixed (GateBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.GateBackward(_context.Stream.Native, args));
        if (!weights)
            return;
        _wgrad.Rows = rows;
        _wgrad.XRows = rows;
        _wgrad.Workspace = (void*)_context.Workspace;
        _wgrad.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (GemmWgradArgs* args = &_wgrad)
            NativeStatus.Check(NativeMethods.GemmWgrad(_context.Stream.Native, args));
    }

    /// <summary>The gates' part of the input's gradient.</summary>
    public void BackwardInput(long rows, in InputGradientTarget target)
    {
        _dgrad.Rows = rows;
        _dgrad.Dx = (void*)target.Dx.Pointer;
        _dgrad.DxRowStride = target.Dx.RowStride;
        _dgrad.Accumulate = target.Accumulate ? 1 : 0;
        _dgrad.Activation = target.Below == null ? 0 : (int)target.Activation;
        _dgrad.Below = target.Below == null ? null : (void*)target.Below.Pointer;
        _dgrad.BelowRowStride = target.Below?.RowStride ?? 0;
        _dgrad.Workspace = (void*)_context.Workspace;
        _dgrad.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (GemmDgradArgs* args = &_dgrad)
            NativeStatus.Check(NativeMethods.GemmDgrad(_context.Stream.Native, args));
    }

    private StepNumbers* Noise(long step) => _description.Score == ScoreMode.Noisy && step >= 0 ? _context.StepOnDevice : null;

    private void Bind()
    {
        int k = _description.TopK ?? 0;
        _forward = new()
        {
            StructSize = (uint)sizeof(GateForwardArgs),
            Gates = _gates,
            Experts = _experts,
            TopK = k,
            ScoreMode = (int)_description.Score,
            Renormalise = _description.Renormalize ? 1 : 0,
            Rows = _context.MaxRows,
            KIn = _x.Columns,
            X = (void*)_x.Pointer,
            XRowStride = _x.RowStride,
            Packed = _packed.Data,
            Bias = _bias == null ? null : _bias.Value,
            Logits = _logits == null ? null : _logits.Data,
            Probabilities = _probabilities.Data,
            Chosen = _chosen == null ? null : (int*)_chosen.Pointer,
            Weights = _weights == null ? null : _weights.Data,
            ExpertCounts = k > 0 ? _counts.Device : null,
            ProbabilitySums = _sums.Device,
            ZSums = _description.ZLoss > 0 ? _zSums.Device : null,
            Seed = _seed,
            Step = -1,
        };
        long bytes;
        fixed (GateForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.GateForwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
        if (!_context.Training)
            return;

        _backward = new()
        {
            StructSize = (uint)sizeof(GateBackwardArgs),
            Gates = _gates,
            Experts = _experts,
            TopK = k,
            ScoreMode = (int)_description.Score,
            Renormalise = _description.Renormalize ? 1 : 0,
            Logits = _logits == null ? null : _logits.Data,
            Probabilities = _probabilities.Data,
            Chosen = _chosen == null ? null : (int*)_chosen.Pointer,
            Weights = _weights == null ? null : _weights.Data,
            Dprobabilities = k == 0 ? OutputGradient.Data : null,
            Dweights = k > 0 ? OutputGradient.Data : null,
            ExpertCounts = k > 0 ? _counts.Device : null,
            Dlogits = _dlogits!.Data,
            DlogitsRowStride = _dlogits.RowStride,
            Seed = _seed,
        };
        _dgrad = new()
        {
            StructSize = (uint)sizeof(GemmDgradArgs),
            Groups = 1,
            Rows = _context.MaxRows,
            N = _columns,
            K = _x.Columns,
            Dz = _dlogits.Data,
            DzRowStride = _dlogits.RowStride,
            Packed = _packedTransposed!.Data,
            DxRowStride = _x.RowStride,
            ActivationSlope = _context.ActivationSlope,
        };
        fixed (GemmDgradArgs* args = &_dgrad)
            NativeStatus.Check(NativeMethods.GemmDgradWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
        _wgrad = new()
        {
            StructSize = (uint)sizeof(GemmWgradArgs),
            Groups = 1,
            Rows = _context.MaxRows,
            N = _columns,
            K = _x.Columns,
            Dz = _dlogits.Data,
            DzRowStride = _dlogits.RowStride,
            X = (void*)_x.Pointer,
            XRowStride = _x.RowStride,
            Dw = _weight.Gradient,
            DwRowStride = _x.Columns,
            Dbias = _bias == null ? null : _bias.Gradient,
        };
        fixed (GemmWgradArgs* args = &_wgrad)
            NativeStatus.Check(NativeMethods.GemmWgradWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
