using CudaMoE.Interop;
using CudaMoE.Layers;

namespace CudaMoE.Models;

/// <summary>What tokens beyond an expert's capacity give in a grec model that passes them on: y += p u for these, with the weight p of their only choice.</summary>
internal sealed unsafe class GrecOverflow
{
    private readonly LayerContext _context;
    private readonly SlotSums _sums;
    private readonly TokenCapacity _capacity;
    private readonly Gate _gate;
    private readonly RmsNorm _norm;
    private readonly Slot _output;
    private readonly Slot? _inputGradient;
    private readonly Slot? _weightGradient;
    private readonly long _width;
    private CombineForwardArgs _forward;
    private CombineBackwardArgs _backward;

    /// <param name="tokens">The context whose rows are tokens.</param>
    /// <param name="sums">Sums.</param>
    /// <param name="capacity">What lists the tokens.</param>
    /// <param name="gate">The gate, of one choice.</param>
    /// <param name="norm">Gives u.</param>
    public GrecOverflow(LayerContext tokens, SlotSums sums, TokenCapacity capacity, Gate gate, RmsNorm norm)
    {
        _context = tokens;
        _sums = sums;
        _capacity = capacity;
        _gate = gate;
        _norm = norm;
        _width = norm.Output.Columns;
        _output = tokens.ReserveExact("overflow.output", _width);
        if (tokens.Training)
        {
            _inputGradient = tokens.ReserveExact("overflow.input_gradient", _width);
            _weightGradient = tokens.ReserveExact("overflow.weight_gradient", 1);
        }

        tokens.OnBind(Bind);
    }

    /// <summary>Adds to <paramref name="y"/>, [tokens, width].</summary>
    public void Forward(long tokens, Slot y)
    {
        _forward.Rows = tokens;
        _forward.ExpertRows = tokens;
        fixed (CombineForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.CombineForward(_context.Stream.Native, args));
        _sums.Add(tokens, _output, y);
    }

    /// <summary>Adds to the gradients of the gate's weights and of u, which must have been written.</summary>
    public void Backward(long tokens, Slot dy)
    {
        _context.Stream.Fill(_inputGradient!.Pointer, 0, tokens * _width * sizeof(float));
        _backward.Rows = tokens;
        _backward.ExpertRows = tokens;
        _backward.Dy = dy.Data;
        _backward.DyRowStride = dy.RowStride;
        _backward.Workspace = (void*)_context.Workspace;
        _backward.WorkspaceBytes = _context.WorkspaceBytes;
        fixed (CombineBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.CombineBackward(_context.Stream.Native, args));
        _sums.Add(tokens, _inputGradient!, _norm.OutputGradient);
        _sums.Add(tokens, _weightGradient!, _gate.OutputGradient);
    }

    private void Bind()
    {
        _forward = new()
        {
            StructSize = (uint)sizeof(CombineForwardArgs),
            Tasks = 1,
            Rows = _context.MaxRows,
            Width = _width,
            Choices = 1,
            Gates = _gate.Output.Data,
            SlotOfPair = _capacity.DroppedRows,
            Expert = _norm.Output.Data,
            ExpertRowStride = _norm.Output.RowStride,
            ExpertRows = _context.MaxRows,
            Y = _output.Data,
            YRowStride = _output.RowStride,
            YTaskStride = _width,
        };
        if (!_context.Training)
            return;
        _backward = new()
        {
            StructSize = (uint)sizeof(CombineBackwardArgs),
            Tasks = 1,
            Rows = _context.MaxRows,
            Width = _width,
            Choices = 1,
            Gates = _gate.Output.Data,
            SlotOfPair = _capacity.DroppedRows,
            Expert = _norm.Output.Data,
            ExpertRowStride = _norm.Output.RowStride,
            ExpertRows = _context.MaxRows,
            Dy = _norm.Output.Data,
            DyRowStride = _width,
            DyTaskStride = _width,
            Dexpert = _inputGradient!.Data,
            DexpertRowStride = _inputGradient.RowStride,
            Dgates = _weightGradient!.Data,
        };
        long bytes;
        fixed (CombineBackwardArgs* args = &_backward)
            NativeStatus.Check(NativeMethods.CombineBackwardWorkspace(_context.Stream.Native, args, &bytes));
        _context.NeedWorkspace(bytes);
    }
}
