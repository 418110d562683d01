using CudaMoE.Interop;
using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>
/// y = x / sqrt(mean(x^2) + epsilon) * scale over each row (Zhang and Sennrich 2019). It runs as a layer normalisation of [x, -x], whose mean is 0 and whose variance is
/// mean(x^2); the scale of the second half is 0.
/// </summary>
internal sealed unsafe class RmsNorm
{
    private const float Epsilon = 1e-6f;
    private readonly LayerContext _context;
    private readonly Slot _x;
    private readonly Slot _both;
    private readonly Slot _normed;
    private readonly Slot? _gradient;
    private readonly Slot? _inputGradient;
    private readonly ParameterBlock _scale;
    private readonly SlotSums _sums;
    private nint _mean;
    private nint _reciprocal;
    private nint _gamma;
    private nint _gammaGradient;
    private nint _minusOne;
    private LayerNormForwardArgs _forward;
    private LayerNormBackwardArgs _backward;

    /// <param name="context">The context; its rows are those of <paramref name="x"/>.</param>
    /// <param name="name">Prefix of the parameter's name.</param>
    /// <param name="x">[rows, width].</param>
    /// <param name="sums">Copies.</param>
    public RmsNorm(LayerContext context, string name, Slot x, SlotSums sums)
    {
        _context = context;
        _x = x;
        _sums = sums;
        _scale = context.Parameters.Add($"{name}.weight", ParameterKind.Norm, x.Columns);
        _both = context.Reserve($"{name}.input", 2 * x.Columns);
        _normed = context.Reserve($"{name}.output", 2 * x.Columns);
        Output = _normed.Slice(0, x.Columns);
        Arena arena = context.Activations;
        arena.Reserve($"{name}.mean", (long)context.MaxRows * sizeof(float), p => _mean = p);
        arena.Reserve($"{name}.reciprocal", (long)context.MaxRows * sizeof(float), p => _reciprocal = p);
        arena.Reserve($"{name}.gamma", 2 * x.Columns * sizeof(float), p => _gamma = p);
        arena.Reserve($"{name}.minus_one", sizeof(float), p => _minusOne = p);
        if (context.Training)
        {
            _gradient = context.Reserve($"{name}.gradient", 2 * x.Columns);
            _inputGradient = context.Reserve($"{name}.input_gradient", 2 * x.Columns);
            OutputGradient = _gradient.Slice(0, x.Columns);
            arena.Reserve($"{name}.gamma_gradient", 2 * x.Columns * sizeof(float), p => _gammaGradient = p);
        }

        context.OnBind(Bind);
    }

    /// <summary>[rows, width].</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward.</summary>
    public Slot OutputGradient { get; } = null!;

    /// <summary>Takes over the scale; after every change of the parameters.</summary>
    public void Pack() => _context.Stream.CopyOnDevice((nint)_scale.Value, _gamma, _scale.Count * sizeof(float));

    /// <summary>Initial values: scale 1.</summary>
    public void Initialize()
    {
        float[] ones = new float[_scale.Count];
        Array.Fill(ones, 1f);
        _context.Stream.CopyToDevice<float>(ones, (nint)_scale.Value);
    }

    public void Forward(long rows)
    {
        _sums.Copy(rows, _x, _both.Slice(0, _x.Columns));
        BalanceOperations.Combine(_context, _x, 0, 1, rows, (float*)_minusOne, _both.Slice(_x.Columns, _x.Columns), accumulate: false);
        _forward.Rows = rows;
        fixed (LayerNormForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.LayerNormForward(_context.Stream.Native, args));
    }

    /// <summary>From <see cref="OutputGradient"/> to the scale's gradient and the input's, which is overwritten.</summary>
    public void Backward(long rows, Slot dx)
    {
        _backward.Rows = rows;
        _backward.Workspace = (void*)_context.Workspace;
        _backward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (LayerNormBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.LayerNormBackward(_context.Stream.Native, args));
        _context.Stream.CopyOnDevice(_gammaGradient, (nint)_scale.Gradient, _scale.Count * sizeof(float));
        _sums.Copy(rows, _inputGradient!.Slice(0, _x.Columns), dx);
        BalanceOperations.Combine(_context, _inputGradient.Slice(_x.Columns, _x.Columns), 0, 1, rows, (float*)_minusOne, dx, accumulate: true);
    }

    private void Bind()
    {
        _context.Stream.CopyToDevice<float>([-1f], _minusOne);
        _forward = new()
        {
            StructSize = (uint)sizeof(LayerNormForwardArgs),
            Epsilon = Epsilon,
            Width = _both.Columns,
            X = _both.Data,
            XRowStride = _both.RowStride,
            Gamma = (float*)_gamma,
            Y = _normed.Data,
            YRowStride = _normed.RowStride,
            Mean = (float*)_mean,
            ReciprocalDeviation = (float*)_reciprocal,
        };
        if (!_context.Training)
            return;
        // Nobody writes the second half of the output's gradient, so that it stays as it was made: 0.
        _backward = new()
        {
            StructSize = (uint)sizeof(LayerNormBackwardArgs),
            Rows = _context.MaxRows,
            Width = _both.Columns,
            X = _both.Data,
            XRowStride = _both.RowStride,
            Gamma = (float*)_gamma,
            Mean = (float*)_mean,
            ReciprocalDeviation = (float*)_reciprocal,
            Dy = _gradient!.Data,
            DyRowStride = _gradient.RowStride,
            Dx = _inputGradient!.Data,
            DxRowStride = _inputGradient.RowStride,
            Dgamma = (float*)_gammaGradient,
        };
        long bytes;
        fixed (LayerNormBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.LayerNormBackwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
