using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>y = x / sqrt(mean(x^2) + epsilon) * scale over each row (Zhang and Sennrich 2019).</summary>
internal sealed unsafe class RmsNorm
{
    private const float Epsilon = 1e-6f;
    private readonly LayerContext _context;
    private readonly Slot _x;
    private readonly ParameterBlock _scale;
    private nint _reciprocal;
    private RmsNormForwardArgs _forward;
    private RmsNormBackwardArgs _backward;

    /// <param name="context">The context; its rows are those of <paramref name="x"/>.</param>
    /// <param name="name">Prefix of the parameter's name.</param>
    /// <param name="x">[rows, width].</param>
    public RmsNorm(LayerContext context, string name, Slot x)
    {
        _context = context;
        _x = x;
        _scale = context.Parameters.Add($"{name}.weight", ParameterKind.Norm, x.Columns);
        Output = context.Reserve($"{name}.output", x.Columns);
        if (context.Training)
            OutputGradient = context.Reserve($"{name}.gradient", x.Columns);
        context.Activations.Reserve($"{name}.reciprocal", (long)context.MaxRows * sizeof(float), p => _reciprocal = p);
        context.OnBind(Bind);
    }

    /// <summary>[rows, width].</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward.</summary>
    public Slot OutputGradient { get; } = null!;

    /// <summary>Initial values: scale 1.</summary>
    public void Initialize()
    {
        float[] ones = new float[_scale.Count];
        Array.Fill(ones, 1f);
        _context.Stream.CopyToDevice<float>(ones, (nint)_scale.Value);
    }

    public void Forward(long rows)
    {
        _forward.Rows = rows;
        fixed (RmsNormForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.RmsNormForward(_context.Stream.Native, args));
    }

    /// <summary>From <see cref="OutputGradient"/> to the scale's gradient and the input's, which is overwritten.</summary>
    public void Backward(long rows, Slot dx)
    {
        _backward.Rows = rows;
        _backward.Dx = dx.Data;
        _backward.DxRowStride = dx.RowStride;
        _backward.Workspace = (void*)_context.Workspace;
        _backward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (RmsNormBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.RmsNormBackward(_context.Stream.Native, args));
    }

    private void Bind()
    {
        _forward = new()
        {
            StructSize = (uint)sizeof(RmsNormForwardArgs),
            Epsilon = Epsilon,
            Width = _x.Columns,
            X = _x.Data,
            XRowStride = _x.RowStride,
            Gamma = _scale.Value,
            Y = Output.Data,
            YRowStride = Output.RowStride,
            Reciprocal = (float*)_reciprocal,
        };
        if (!_context.Training)
            return;
        _backward = new()
        {
            StructSize = (uint)sizeof(RmsNormBackwardArgs),
            Rows = _context.MaxRows,
            Width = _x.Columns,
            X = _x.Data,
            XRowStride = _x.RowStride,
            Gamma = _scale.Value,
            Reciprocal = (float*)_reciprocal,
            Dy = OutputGradient.Data,
            DyRowStride = OutputGradient.RowStride,
            Dgamma = _scale.Gradient,
        };
        long bytes;
        fixed (RmsNormBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.RmsNormBackwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
