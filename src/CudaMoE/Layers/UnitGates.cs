using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>Wiring of <see cref="UnitGates"/>.</summary>
internal sealed record UnitGatesPlan
{
    /// <summary>Prefix of the parameter names.</summary>
    public required string Name { get; init; }

    public required int Gates { get; init; }

    public required int Experts { get; init; }

    /// <summary>[rows, width], read by all gates; or [rows, gates * width] at least, of which gate g reads part g.</summary>
    public required Slot X { get; init; }

    /// <summary>Width of what a gate reads.</summary>
    public required long InputWidth { get; init; }

    /// <summary>Whether each gate reads a part of its own.</summary>
    public required bool OwnInputs { get; init; }

    /// <summary>For each gate the experts that it sees, ascending; null = all gates see all.</summary>
    public IReadOnlyList<IReadOnlyList<ExpertRange>>? Visible { get; init; }

    public required bool Bias { get; init; }
}

/// <summary>
/// Dense softmax gates of a level: p[b, g, :] = softmax over the visible experts of (W_g x_g[b] + c_g), and 0 for the others.
/// </summary>
/// <remarks>
/// Gates that read one input run as one fused gate. Gates with inputs of their own run as one grouped product into [rows * gates, experts] logits,
/// and their softmax as one gate over these whose weights are the identity: exact for finite logits, since every sum has one term that is not 0.
/// </remarks>
internal sealed unsafe class UnitGates
{
    private readonly LayerContext _context;
    private readonly UnitGatesPlan _plan;
    private readonly long _columns;
    private readonly long _k;
    private readonly GateWeights _weights;
    private readonly Slot? _logits;
    private readonly Slot? _dlogits;
    private readonly double[] _hostSums;
    private readonly float[] _readSums;
    private readonly PackedMatrix _packed;
    private readonly PackedMatrix? _packedTransposed;
    private readonly PackedMatrix? _packedIdentity;
    private nint _identity;
    private nint _ones;
    private nint _sums;
    private GemmForwardArgs _product;
    private GateForwardArgs _softmax;
    private GateBackwardArgs _backward;
    private GemmDgradArgs _dgrad;
    private GemmWgradArgs _wgrad;
    private GemmWgradArgs _columnSums;

    public UnitGates(LayerContext context, UnitGatesPlan plan)
    {
        _context = context;
        _plan = plan;
        _columns = (long)plan.Gates * plan.Experts;
        _k = plan.InputWidth;
        _weights = new(context, plan.Name, plan.Gates, plan.Experts, _k, plan.Visible, plan.Bias);
        Output = context.ReserveExact($"{plan.Name}.probabilities", _columns);
        if (plan.OwnInputs)
            _logits = context.ReserveExact($"{plan.Name}.logits", _columns);
        if (context.Training)
        {
            OutputGradient = context.ReserveExact($"{plan.Name}.gradient", _columns);
            _dlogits = context.ReserveExact($"{plan.Name}.dlogits", _columns);
        }

        _hostSums = new double[_columns];
        _readSums = new float[_columns];
        context.Activations.Reserve($"{plan.Name}.ones", (long)context.MaxRows * sizeof(float), p => _ones = p);
        context.Activations.Reserve($"{plan.Name}.sums", _columns * sizeof(float), p => _sums = p);
        int groups = plan.OwnInputs ? plan.Gates : 1;
        _packed = new(context, plan.Name, _columns / groups, _k, groups: groups, alwaysF32: true);
        if (context.Training)
            _packedTransposed = new(context, plan.Name, _columns / groups, _k, transposed: true, groups, alwaysF32: true);
        if (plan.OwnInputs)
        {
            context.Packed.Reserve($"{plan.Name}.identity", (long)plan.Experts * plan.Experts * sizeof(float), p => _identity = p);
            _packedIdentity = new(context, $"{plan.Name}.identity", plan.Experts, plan.Experts, alwaysF32: true);
        }

        context.OnBind(Bind);
    }

    public int Gates => _plan.Gates;

    public int Experts => _plan.Experts;

    /// <summary>[rows, gates, experts].</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written.</summary>
    public Slot OutputGradient { get; } = null!;

    /// <summary>[gates, experts] sums of the probabilities over the rows of the last forward, in f32 sums; waits for them.</summary>
    public ReadOnlySpan<double> ProbabilitySums(long rows)
    {
        _columnSums.Rows = rows;
        _columnSums.XRows = rows;
        Run(ref _columnSums);
        _context.Stream.CopyToHost<float>(_sums, _readSums);
        for (int i = 0; i < _hostSums.Length; i++)
            _hostSums[i] = _readSums[i];
        return _hostSums;
    }

    public void Pack()
    {
        _weights.Pack();
        _packed.Pack(_weights.Weight);
        _packedTransposed?.Pack(_weights.Weight);
    }

    public void Forward(long rows)
    {
        if (_plan.OwnInputs)
        {
            _product.Rows = rows;
            _product.XRows = rows;
            _product.Workspace = (void*)_context.Workspace;
            _product.WorkspaceBytes = _context.WorkspaceBytes;
            fixed (GemmForwardArgs* args = &_product)
                NativeStatus.Check(NativeMethods.GemmForward(_context.Stream.Native, args));
        }

        _softmax.Rows = _plan.OwnInputs ? rows * _plan.Gates : rows;
        _softmax.Workspace = (void*)_context.Workspace;
        _softmax.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (GateForwardArgs* args = &_softmax)
            NativeStatus.Check(NativeMethods.GateForward(_context.Stream.Native, args));
    }

    /// <summary>From <see cref="OutputGradient"/> to the gradient of the logits, and the parameters' gradients unless <paramref name="weights"/> is false.</summary>
    public void Backward(long rows, bool weights)
    {
        _backward.Rows = rows * _plan.Gates;
        fixed (GateBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.GateBackward(_context.Stream.Native, args));
        if (!weights)
            return;
        _wgrad.Rows = rows;
        _wgrad.XRows = rows;
        Run(ref _wgrad);
        _weights.StoreGradients();
    }

    /// <summary>The gates' part of the gradient of what they read; with inputs of their own, of the parts that gates read.</summary>
    public void BackwardInput(long rows, in InputGradientTarget target)
    {
        _dgrad.Rows = rows;
        _dgrad.Dx = target.Dx.Data;
        _dgrad.DxRowStride = target.Dx.RowStride;
        _dgrad.Accumulate = target.Accumulate ? 1 : 0;
        _dgrad.Activation = target.Below == null ? 0 : (int)target.Activation;
        _dgrad.Below = target.Below == null ? null : target.Below.Data;
        _dgrad.BelowRowStride = target.Below?.RowStride ?? 0;
        _dgrad.Workspace = (void*)_context.Workspace;
        _dgrad.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (GemmDgradArgs* args = &_dgrad)
            NativeStatus.Check(NativeMethods.GemmDgrad(_context.Stream.Native, args));
    }

    private void Run(ref GemmWgradArgs wgrad)
    {
        wgrad.Workspace = (void*)_context.Workspace;
        wgrad.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (GemmWgradArgs* args = &wgrad)
            NativeStatus.Check(NativeMethods.GemmWgrad(_context.Stream.Native, args));
    }

    private void Bind()
    {
        BindConstants();
        BindForward();
        BindColumnSums();
        if (_context.Training)
            BindBackward();
    }

    private void BindConstants()
    {
        float[] ones = new float[_context.MaxRows];
        Array.Fill(ones, 1f);
        _context.Stream.CopyToDevice<float>(ones, _ones);
        if (!_plan.OwnInputs)
            return;
        int experts = _plan.Experts;
        float[] identity = new float[experts * experts];
        for (int e = 0; e < experts; e++)
            identity[(e * experts) + e] = 1;
        _context.Stream.CopyToDevice<float>(identity, _identity);
        _packedIdentity!.Pack((float*)_identity);
    }

    private void BindForward()
    {
        bool own = _plan.OwnInputs;
        long bytes;
        if (own)
        {
            _product = new()
            {
                StructSize = (uint)sizeof(GemmForwardArgs),
                Groups = _plan.Gates,
                Rows = _context.MaxRows,
                N = _plan.Experts,
                K = _k,
                XRows = _context.MaxRows,
                X = _plan.X.Data,
                XRowStride = _plan.X.RowStride,
                XGroupStride = _k,
                Packed = _packed.Data,
                Bias = _weights.Bias,
                BiasGroupStride = _plan.Experts,
                Y = _logits!.Data,
                YRowStride = _columns,
                YGroupStride = _plan.Experts,
            };
            fixed (GemmForwardArgs* args = &_product)
                NativeStatus.Check(NativeMethods.GemmForwardWorkspace(_context.Stream.Native, args, &bytes));
            _context.NeedWorkspace(bytes);
        }

        _softmax = new()
        {
            StructSize = (uint)sizeof(GateForwardArgs),
            Gates = own ? 1 : _plan.Gates,
            Experts = _plan.Experts,
            Rows = own ? (long)_context.MaxRows * _plan.Gates : _context.MaxRows,
            KIn = own ? _plan.Experts : _k,
            X = own ? _logits!.Data : _plan.X.Data,
            XRowStride = own ? _plan.Experts : _plan.X.RowStride,
            Packed = own ? _packedIdentity!.Data : _packed.Data,
            Bias = own ? null : _weights.Bias,
            Probabilities = Output.Data,
            Step = -1,
        };
        fixed (GateForwardArgs* args = &_softmax)
            NativeStatus.Check(NativeMethods.GateForwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }

    /// <summary>The sums over rows are the product of the probabilities with a column of ones.</summary>
    private void BindColumnSums()
    {
        _columnSums = new()
        {
            StructSize = (uint)sizeof(GemmWgradArgs),
            Groups = 1,
            Rows = _context.MaxRows,
            XRows = _context.MaxRows,
            N = _columns,
            K = 1,
            Dz = Output.Data,
            DzRowStride = _columns,
            X = (void*)_ones,
            XRowStride = 1,
            Dw = (float*)_sums,
            DwRowStride = 1,
        };
        NeedWorkspace(ref _columnSums);
    }

    private void BindBackward()
    {
        bool own = _plan.OwnInputs;
        _backward = new()
        {
            StructSize = (uint)sizeof(GateBackwardArgs),
            Gates = 1,
            Experts = _plan.Experts,
            Probabilities = Output.Data,
            Dprobabilities = OutputGradient.Data,
            Dlogits = _dlogits!.Data,
            DlogitsRowStride = _plan.Experts,
        };
        _dgrad = new()
        {
            StructSize = (uint)sizeof(GemmDgradArgs),
            Groups = own ? _plan.Gates : 1,
            Rows = _context.MaxRows,
            N = own ? _plan.Experts : _columns,
            K = _k,
            Dz = _dlogits.Data,
            DzRowStride = _columns,
            DzGroupStride = _plan.Experts,
            Packed = _packedTransposed!.Data,
            DxRowStride = _plan.X.RowStride,
            DxGroupStride = _k,
            BelowGroupStride = _k,
            ActivationSlope = _context.ActivationSlope,
        };
        long bytes;
        fixed (GemmDgradArgs* args = &_dgrad)
            NativeStatus.Check(NativeMethods.GemmDgradWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
        _wgrad = new()
        {
            StructSize = (uint)sizeof(GemmWgradArgs),
            Groups = own ? _plan.Gates : 1,
            Rows = _context.MaxRows,
            XRows = _context.MaxRows,
            N = own ? _plan.Experts : _columns,
            K = _k,
            Dz = _dlogits.Data,
            DzRowStride = _columns,
            DzGroupStride = _plan.Experts,
            X = _plan.X.Data,
            XRowStride = _plan.X.RowStride,
            XGroupStride = _k,
            Dw = _weights.WeightGradient,
            DwRowStride = _k,
            DwGroupStride = _plan.Experts * _k,
            Dbias = _weights.BiasGradient,
            DbiasGroupStride = _plan.Experts,
        };
        NeedWorkspace(ref _wgrad);
    }

    private void NeedWorkspace(ref GemmWgradArgs wgrad)
    {
        long bytes;
        fixed (GemmWgradArgs* args = &wgrad)
            NativeStatus.Check(NativeMethods.GemmWgradWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
