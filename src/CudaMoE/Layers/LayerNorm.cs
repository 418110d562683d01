using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>Layer normalisation with a learned scale and, unless left out, a learned shift (Ba et al. 2016).</summary>
internal sealed unsafe class LayerNorm
{
    private readonly LayerContext _context;
    private readonly Slot _x;
    private readonly ParameterBlock _gamma;
    private readonly ParameterBlock? _beta;
    private readonly float _epsilon;
    private nint _mean;
    private nint _reciprocal;
    private LayerNormForwardArgs _forward;
    private LayerNormBackwardArgs _backward;

    /// <param name="context">The context; its rows are those of <paramref name="x"/>.</param>
    /// <param name="name">Prefix of the parameters' names.</param>
    /// <param name="x">[rows, width].</param>
    /// <param name="shift">Whether there is a shift.</param>
    /// <param name="epsilon">Added to the variance.</param>
    public LayerNorm(LayerContext context, string name, Slot x, bool shift = true, float epsilon = 1e-5f)
    {
        _context = context;
        _epsilon = epsilon;
        _x = x;
        _gamma = context.Parameters.Add($"{name}.weight", ParameterKind.Norm, x.Columns);
        _beta = shift ? context.Parameters.Add($"{name}.bias", ParameterKind.Bias, x.Columns) : null;
        Output = context.Reserve($"{name}.output", x.Columns);
        if (context.Training)
            OutputGradient = context.Reserve($"{name}.gradient", x.Columns);
        context.Activations.Reserve($"{name}.mean", (long)context.MaxRows * sizeof(float), p => _mean = p);
        context.Activations.Reserve($"{name}.reciprocal", (long)context.MaxRows * sizeof(float), p => _reciprocal = p);
        context.OnBind(Bind);
    }

    public Slot Output { get; }

    public Slot OutputGradient { get; } = null!;

    public void Forward(long rows)
    {
        _forward.Rows = rows;
        fixed (LayerNormForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.LayerNormForward(_context.Stream.Native, args));
    }

    /// <summary>From <see cref="OutputGradient"/> to the parameters' gradients and <paramref name="dx"/>, which may be null when nobody wants it.</summary>
    public void Backward(long rows, Slot? dx)
    {
        Slot target = dx ?? OutputGradient;
        _backward.Rows = rows;
        _backward.Dx = target.Data;
        _backward.DxRowStride = target.RowStride;
        _backward.Workspace = (void*)_context.Workspace;
        _backward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (LayerNormBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.LayerNormBackward(_context.Stream.Native, args));
    }

    /// <summary>Initial values: scale 1, shift 0.</summary>
    public void Initialize()
    {
        float[] ones = new float[_gamma.Count];
        Array.Fill(ones, 1f);
        _context.Stream.CopyToDevice<float>(ones, (nint)_gamma.Value);
    }

    private void Bind()
    {
        _forward = new()
        {
            StructSize = (uint)sizeof(LayerNormForwardArgs),
            Epsilon = _epsilon,
            Width = _x.Columns,
            X = _x.Data,
            XRowStride = _x.RowStride,
            Gamma = _gamma.Value,
            Beta = _beta == null ? null : _beta.Value,
            Y = Output.Data,
            YRowStride = Output.RowStride,
            Mean = (float*)_mean,
            ReciprocalDeviation = (float*)_reciprocal,
        };
        if (!_context.Training)
            return;
        _backward = new()
        {
            StructSize = (uint)sizeof(LayerNormBackwardArgs),
            Rows = _context.MaxRows,
            Width = _x.Columns,
            X = _x.Data,
            XRowStride = _x.RowStride,
            Gamma = _gamma.Value,
            Mean = (float*)_mean,
            ReciprocalDeviation = (float*)_reciprocal,
            Dy = OutputGradient.Data,
            DyRowStride = OutputGradient.RowStride,
            DxRowStride = _x.RowStride,
            Dgamma = _gamma.Gradient,
            Dbeta = _beta == null ? null : _beta.Gradient,
        };
        long bytes;
        fixed (LayerNormBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.LayerNormBackwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
