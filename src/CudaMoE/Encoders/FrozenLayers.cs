using CudaMoE.Description;
using CudaMoE.Interop;
using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Encoders;

/// <summary>Wiring of a <see cref="FrozenLinear"/>.</summary>
/// <param name="Name">Name of the bias.</param>
/// <param name="X">[rows, k].</param>
/// <param name="Y">[rows, n].</param>
/// <param name="Activation">Behind the product and the bias.</param>
/// <param name="Accumulate">Adds to what Y holds, as a residual connection does; only without activation.</param>
/// <param name="Bias">Whether there is one.</param>
internal sealed record FrozenLinearPlan(string Name, Slot X, Slot Y, ActivationKind Activation = ActivationKind.None, bool Accumulate = false, bool Bias = true);

/// <summary>y = activation(x W^T + b) whose weights never change: only the packed ones are kept, so a weight takes its place once.</summary>
internal sealed unsafe class FrozenLinear
{
    private readonly LayerContext _context;
    private readonly FrozenLinearPlan _plan;
    private readonly ParameterBlock? _bias;
    private readonly PackedMatrix _packed;
    private GemmForwardArgs _forward;

    public FrozenLinear(LayerContext context, FrozenLinearPlan plan)
    {
        _context = context;
        _plan = plan;
        _bias = plan.Bias ? context.Parameters.Add($"{plan.Name}.bias", ParameterKind.Bias, plan.Y.Columns) : null;
        _packed = new(context, plan.Name, plan.Y.Columns, plan.X.Columns);
        context.OnBind(Bind);
    }

    /// <summary>Elements of the weights, [n, k].</summary>
    public long WeightCount => _plan.X.Columns * _plan.Y.Columns;

    /// <summary>Takes weights and bias.</summary>
    /// <param name="weights">[n, k].</param>
    /// <param name="bias">[n]; empty without bias.</param>
    /// <param name="staging">Device memory for the weights; may be used again when this returns.</param>
    public void Load(ReadOnlySpan<float> weights, ReadOnlySpan<float> bias, DeviceBuffer staging)
    {
        _context.Stream.CopyToDevice(weights, staging.Pointer);
        _packed.Pack((float*)staging.Pointer);
        if (_bias != null)
            _context.Stream.CopyToDevice(bias, (nint)_bias.Value);
    }

    public void Forward(long rows)
    {
        _forward.Rows = rows;
        _forward.Workspace = (void*)_context.Workspace;
        _forward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (GemmForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.GemmForward(_context.Stream.Native, args));
    }

    private void Bind()
    {
        _forward = new()
        {
            StructSize = (uint)sizeof(GemmForwardArgs),
            Groups = 1,
            Rows = _context.MaxRows,
            N = _plan.Y.Columns,
            K = _plan.X.Columns,
            X = _plan.X.Data,
            XRowStride = _plan.X.RowStride,
            Packed = _packed.Data,
            Bias = _bias == null ? null : _bias.Value,
            BiasGroupStride = _plan.Y.Columns,
            Y = _plan.Y.Data,
            YRowStride = _plan.Y.RowStride,
            PackedDtype = _packed.Type,
            Activation = (int)_plan.Activation,
            Accumulate = _plan.Accumulate ? 1 : 0,
        };
        long bytes;
        fixed (GemmForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.GemmForwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}

/// <summary>Layer normalisation from one matrix to another, or in place, whose scale and shift never change.</summary>
internal sealed unsafe class FrozenNorm
{
    private readonly LayerContext _context;
    private readonly ParameterBlock _gamma;
    private readonly ParameterBlock _beta;
    private LayerNormForwardArgs _forward;

    public FrozenNorm(LayerContext context, string name, Slot x, Slot y, float epsilon)
    {
        _context = context;
        Name = name;
        Width = x.Columns;
        _gamma = context.Parameters.Add($"{name}.weight", ParameterKind.Norm, x.Columns);
        _beta = context.Parameters.Add($"{name}.bias", ParameterKind.Bias, x.Columns);
        context.OnBind(() => _forward = new()
        {
            StructSize = (uint)sizeof(LayerNormForwardArgs),
            Epsilon = epsilon,
            Width = x.Columns,
            X = x.Data,
            XRowStride = x.RowStride,
            Gamma = _gamma.Value,
            Beta = _beta.Value,
            Y = y.Data,
            YRowStride = y.RowStride,
        });
    }

    public string Name { get; }

    public long Width { get; }

    public void Load(ReadOnlySpan<float> gamma, ReadOnlySpan<float> beta)
    {
        _context.Stream.CopyToDevice(gamma, (nint)_gamma.Value);
        _context.Stream.CopyToDevice(beta, (nint)_beta.Value);
    }

    public void Forward(long rows)
    {
        _forward.Rows = rows;
        fixed (LayerNormForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.LayerNormForward(_context.Stream.Native, args));
    }
}

/// <summary>Attention of every token of a sequence to its tokens, for sequences of any length up to the rows of the context.</summary>
internal sealed unsafe class FrozenAttention
{
    private readonly LayerContext _context;
    private AttentionForwardArgs _forward;

    /// <param name="context">The context, whose rows are tokens.</param>
    /// <param name="qkv">[rows, 3 * width]: queries, keys and values side by side.</param>
    /// <param name="output">[rows, width].</param>
    /// <param name="heads">Heads.</param>
    public FrozenAttention(LayerContext context, Slot qkv, Slot output, int heads)
    {
        _context = context;
        context.OnBind(() => Bind(qkv, output, heads));
    }

    /// <param name="sequences">Sequences.</param>
    /// <param name="tokens">Rows of each.</param>
    /// <param name="counts">[sequences] tokens of each that are seen, in device memory.</param>
    public void Forward(long sequences, long tokens, int* counts)
    {
        _forward.Sequences = sequences;
        _forward.Queries = tokens;
        _forward.Keys = tokens;
        _forward.KeyCounts = counts;
        _forward.Workspace = (void*)_context.Workspace;
        _forward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (AttentionForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.AttentionForward(_context.Stream.Native, args));
    }

    private void Bind(Slot qkv, Slot output, int heads)
    {
        int headWidth = (int)(output.Columns / heads);
        _forward = new()
        {
            StructSize = (uint)sizeof(AttentionForwardArgs),
            Heads = heads,
            KeyHeads = heads,
            HeadWidth = headWidth,
            Scale = 1 / MathF.Sqrt(headWidth),
            Sequences = 1,
            Queries = _context.MaxRows,
            Keys = _context.MaxRows,
            Q = qkv.Data,
            QRowStride = qkv.RowStride,
            K = qkv.Data + output.Columns,
            KRowStride = qkv.RowStride,
            V = qkv.Data + (2 * output.Columns),
            VRowStride = qkv.RowStride,
            Y = output.Data,
            YRowStride = output.RowStride,
        };
        long bytes;
        fixed (AttentionForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.AttentionForwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}

/// <summary>Sums or means of rows of a table, one bag of row numbers for each row of the result.</summary>
internal sealed unsafe class RowLookup
{
    private readonly LayerContext _context;
    private EmbeddingTable _table;
    private EmbeddingFeature _feature;
    private EmbeddingForwardArgs _args;

    /// <param name="context">The context.</param>
    /// <param name="table">Address of the table, once memory is there.</param>
    /// <param name="tableRows">Rows of the table.</param>
    /// <param name="tableStride">Elements from one of them to the next.</param>
    /// <param name="width">Elements of a row.</param>
    /// <param name="mean">Means instead of sums.</param>
    public RowLookup(LayerContext context, Func<nint> table, long tableRows, long tableStride, int width, bool mean)
    {
        _context = context;
        context.OnBind(() =>
        {
            _table = new() { Weights = (void*)table(), Rows = tableRows, RowStride = tableStride, Dim = width };
            _feature = new() { Pooling = mean ? 1 : 0 };
            _args = new() { StructSize = (uint)sizeof(EmbeddingForwardArgs), TableCount = 1, FeatureCount = 1, Bounds = NativeConstants.BoundsReport };
        });
    }

    /// <param name="bags">Rows of the result.</param>
    /// <param name="ids">Row numbers of all bags, in device memory.</param>
    /// <param name="count">Their number.</param>
    /// <param name="offsets">[bags + 1] where each bag begins, in device memory; null = bags of the same size.</param>
    /// <param name="output">Address of the result's first row.</param>
    /// <param name="outputStride">Elements from one row of the result to the next.</param>
    public void Forward(long bags, int* ids, long count, int* offsets, nint output, long outputStride)
    {
        EmbeddingTable table = _table;
        EmbeddingFeature feature = _feature;
        feature.Ids = ids;
        feature.Offsets = offsets;
        feature.BagSize = offsets == null && bags > 0 ? (int)(count / bags) : 1;
        feature.Lookups = count;
        _args.Batch = bags;
        _args.Tables = &table;
        _args.Features = &feature;
        _args.Output = (void*)output;
        _args.OutputRowStride = outputStride;
        fixed (EmbeddingForwardArgs* args = &_args)
            NativeStatus.Check(NativeMethods.EmbeddingForward(_context.Stream.Native, args));
    }
}
