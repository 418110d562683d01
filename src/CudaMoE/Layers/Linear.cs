using CudaMoE.Description;
using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>How the groups of a linear layer read their input.</summary>
internal enum GroupInput
{
    /// <summary>All groups read the same rows; run as one product with all their outputs side by side.</summary>
    Shared,

    /// <summary>Group g reads columns g * k .. of every row.</summary>
    Strided,

    /// <summary>Group g reads its routed rows.</summary>
    Routed,
}

/// <summary>Wiring of a <see cref="Linear"/>.</summary>
internal sealed record LinearPlan
{
    public required int Groups { get; init; }

    public required long N { get; init; }

    public required long K { get; init; }

    public required GroupInput Input { get; init; }

    public required Slot X { get; init; }

    /// <summary>First column of X that the layer reads.</summary>
    public long InputColumn { get; init; }

    /// <summary>[rows, groups * n]; routed: [slots, n].</summary>
    public required Slot Y { get; init; }

    /// <summary>First column of Y that the layer writes.</summary>
    public long OutputColumn { get; init; }

    public required ParameterBlock Weight { get; init; }

    public ParameterBlock? Bias { get; init; }

    public ActivationKind Activation { get; init; }

    /// <summary>Layout of Y; needed for the backward of GELU and SiLU.</summary>
    public Slot? Preactivation { get; init; }

    /// <summary>Adds to what Y holds, as a residual connection does; only without activation.</summary>
    public bool Accumulate { get; init; }

    public Routing? Routing { get; init; }

    /// <summary>Routed: whether X is in sample order and rows are gathered (first layer), or in slot order.</summary>
    public bool Gather { get; init; }

    /// <summary>Leading columns of the input whose gradient is wanted; null = all.</summary>
    public long? InputGradientColumns { get; init; }
}

/// <summary>Where a linear layer's input gradient goes.</summary>
/// <param name="Dx">Gradient of the input, in the layout of X (routed with gather: [slots, k]).</param>
/// <param name="Accumulate">Add to what is there.</param>
/// <param name="Below">What the derivative of <paramref name="Activation"/> is taken from; null = no factor.</param>
/// <param name="Activation">The activation that made the input.</param>
internal readonly record struct InputGradientTarget(Slot Dx, bool Accumulate, Slot? Below, ActivationKind Activation);

/// <summary>
/// y = activation(x W^T + b), grouped: an ordinary layer, experts side by side, towers, or routed experts. Weights are [groups, n, k].
/// </summary>
internal sealed unsafe class Linear
{
    private readonly LayerContext _context;
    private readonly LinearPlan _plan;
    private readonly int _groups;
    private readonly long _n;
    private readonly PackedMatrix _packed;
    private readonly PackedMatrix? _packedTransposed;
    private GemmForwardArgs _forward;
    private GemmDgradArgs _dgrad;
    private GemmWgradArgs _wgrad;

    public Linear(LayerContext context, LinearPlan plan)
    {
        _context = context;
        _plan = plan;
        bool side = plan.Input == GroupInput.Shared;
        _groups = side ? 1 : plan.Groups;
        _n = side ? plan.N * plan.Groups : plan.N;
        _packed = new(context, "linear", _n, plan.K, groups: _groups);
        if (context.Training)
            _packedTransposed = new(context, "linear", _n, plan.InputGradientColumns ?? plan.K, transposed: true, _groups, rowStride: plan.K);
        context.OnBind(Bind);
    }

    public LinearPlan Plan => _plan;

    private long MaxRows => _plan.Routing?.MaxSlots ?? _context.MaxRows;

    /// <summary>Reorders the weights for the products; after every change of the weights.</summary>
    public void Pack()
    {
        _packed.Pack(_plan.Weight.Value);
        _packedTransposed?.Pack(_plan.Weight.Value);
    }

    /// <summary>Runs the layer on the first <paramref name="rows"/> rows.</summary>
    public void Forward(long rows)
    {
        _forward.Rows = _plan.Routing == null ? rows : _plan.Routing.Slots(rows);
        _forward.XRows = rows;
        _forward.Workspace = (void*)_context.Workspace;
        _forward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (GemmForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.GemmForward(_context.Stream.Native, args));
    }

    /// <summary>Gradients of weight and bias from <paramref name="dz"/>, the gradient before the activation, in the layout of Y.</summary>
    public void BackwardWeights(long rows, Slot dz)
    {
        _wgrad.Rows = _plan.Routing == null ? rows : _plan.Routing.Slots(rows);
        _wgrad.XRows = rows;
        _wgrad.Dz = dz.Data + _plan.OutputColumn;
        _wgrad.DzRowStride = dz.RowStride;
        _wgrad.Workspace = (void*)_context.Workspace;
        _wgrad.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (GemmWgradArgs* args = &_wgrad)
            NativeStatus.Check(NativeMethods.GemmWgrad(_context.Stream.Native, args));
    }

    /// <summary>Gradient of the input.</summary>
    public void BackwardInput(long rows, Slot dz, in InputGradientTarget target)
    {
        _dgrad.Rows = _plan.Routing == null ? rows : _plan.Routing.Slots(rows);
        _dgrad.Dz = dz.Data + _plan.OutputColumn;
        _dgrad.DzRowStride = dz.RowStride;
        _dgrad.Dx = target.Dx.Data + _plan.InputColumn;
        _dgrad.DxRowStride = target.Dx.RowStride;
        _dgrad.Accumulate = target.Accumulate ? 1 : 0;
        _dgrad.Activation = target.Below == null ? 0 : (int)target.Activation;
        _dgrad.Below = target.Below == null ? null : target.Below.Data + _plan.InputColumn;
        _dgrad.BelowRowStride = target.Below?.RowStride ?? 0;
        _dgrad.Workspace = (void*)_context.Workspace;
        _dgrad.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (GemmDgradArgs* args = &_dgrad)
            NativeStatus.Check(NativeMethods.GemmDgrad(_context.Stream.Native, args));
    }

    /// <summary>The product W W^T of a layer whose groups lie side by side, [n, n], as a forward pass with its own weights as input.</summary>
    public GemmForwardArgs WeightProductArgs(Slot output) => new()
    {
        StructSize = (uint)sizeof(GemmForwardArgs),
        Groups = 1,
        Rows = _n,
        N = _n,
        K = _plan.K,
        X = _plan.Weight.Value,
        XRowStride = _plan.K,
        Packed = _packed.Data,
        Y = output.Data,
        YRowStride = output.RowStride,
        PackedDtype = _packed.Type,
    };

    private void Bind()
    {
        bool strided = _plan.Input == GroupInput.Strided;
        bool routed = _plan.Input == GroupInput.Routed;
        long* offsets = routed ? _plan.Routing!.Offsets : null;
        int* gather = routed && _plan.Gather ? _plan.Routing!.SampleOfSlot : null;
        long inputColumns = _plan.InputGradientColumns ?? _plan.K;

        _forward = new()
        {
            StructSize = (uint)sizeof(GemmForwardArgs),
            Groups = _groups,
            N = _n,
            K = _plan.K,
            Offsets = offsets,
            Gather = gather,
            X = _plan.X.Data + _plan.InputColumn,
            XRowStride = _plan.X.RowStride,
            XGroupStride = strided ? _plan.K : 0,
            Packed = _packed.Data,
            Bias = _plan.Bias == null ? null : _plan.Bias.Value,
            BiasGroupStride = _n,
            Y = _plan.Y.Data + _plan.OutputColumn,
            YRowStride = _plan.Y.RowStride,
            YGroupStride = strided ? _n : 0,
            Preactivation = _plan.Preactivation == null ? null : _plan.Preactivation.Data + _plan.OutputColumn,
            PackedDtype = _packed.Type,
            Activation = (int)_plan.Activation,
            ActivationSlope = _context.ActivationSlope,
            Accumulate = _plan.Accumulate ? 1 : 0,
        };
        _forward.Rows = MaxRows;
        _forward.XRows = _context.MaxRows;
        long bytes;
        fixed (GemmForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.GemmForwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
        if (!_context.Training)
            return;

        _dgrad = new()
        {
            StructSize = (uint)sizeof(GemmDgradArgs),
            Groups = _groups,
            Rows = MaxRows,
            N = _n,
            K = inputColumns,
            Offsets = offsets,
            DzRowStride = _plan.Y.RowStride,
            DzGroupStride = strided ? _n : 0,
            Packed = _packedTransposed!.Data,
            DxRowStride = _plan.X.RowStride,
            DxGroupStride = strided ? _plan.K : 0,
            BelowGroupStride = strided ? _plan.K : 0,
            PackedDtype = _packed.Type,
            ActivationSlope = _context.ActivationSlope,
        };
        fixed (GemmDgradArgs* args = &_dgrad)
            NativeStatus.Check(NativeMethods.GemmDgradWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);

        _wgrad = new()
        {
            StructSize = (uint)sizeof(GemmWgradArgs),
            Groups = _groups,
            Rows = MaxRows,
            N = _n,
            K = _plan.K,
            Offsets = offsets,
            Gather = gather,
            XRows = _context.MaxRows,
            DzRowStride = _plan.Y.RowStride,
            DzGroupStride = strided ? _n : 0,
            X = _plan.X.Data + _plan.InputColumn,
            XRowStride = _plan.X.RowStride,
            XGroupStride = strided ? _plan.K : 0,
            Dw = _plan.Weight.Gradient,
            DwRowStride = _plan.K,
            DwGroupStride = _n * _plan.K,
            Dbias = _plan.Bias == null ? null : _plan.Bias.Gradient,
            DbiasGroupStride = _n,
            ComputeDtype = _packed.Type,
        };
        fixed (GemmWgradArgs* args = &_wgrad)
            NativeStatus.Check(NativeMethods.GemmWgradWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
