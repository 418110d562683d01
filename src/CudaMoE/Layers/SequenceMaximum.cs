using CudaMoE.Interop;

namespace CudaMoE.Layers;

/// <summary>The maximum of each column over the positions of a sequence; its gradient goes to the first position that has it.</summary>
internal sealed unsafe class SequenceMaximum
{
    private readonly LayerContext _context;
    private readonly Slot _x;
    private readonly int _positions;
    private nint _places;

    /// <param name="context">The context whose rows are the sequences.</param>
    /// <param name="name">Name of its buffers.</param>
    /// <param name="x">[sequences * positions, width].</param>
    /// <param name="positions">Positions of a sequence.</param>
    public SequenceMaximum(LayerContext context, string name, Slot x, int positions)
    {
        _context = context;
        _x = x;
        _positions = positions;
        Output = context.ReserveExact($"{name}.output", x.Columns);
        if (!context.Training)
            return;
        OutputGradient = context.ReserveExact($"{name}.gradient", x.Columns);
        context.Activations.Reserve($"{name}.places", context.MaxRows * x.Columns * sizeof(int), p => _places = p);
    }

    /// <summary>[sequences, width]; 0 for a sequence without positions.</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward.</summary>
    public Slot OutputGradient { get; } = null!;

    /// <param name="sequences">Sequences of the batch.</param>
    /// <param name="lengths">[sequences] positions that count, the first ones, in device memory; null = all.</param>
    public void Forward(long sequences, int* lengths)
    {
        SequenceMaximumForwardArgs args = new()
        {
            StructSize = (uint)sizeof(SequenceMaximumForwardArgs),
            Sequences = sequences,
            Positions = _positions,
            Width = _x.Columns,
            X = _x.Data,
            XRowStride = _x.RowStride,
            Counts = lengths,
            Y = Output.Data,
            YRowStride = Output.RowStride,
            Places = (int*)_places,
        };
        NativeStatus.Check(NativeMethods.SequenceMaximumForward(_context.Stream.Native, &args));
    }

    /// <summary>Writes the gradient of x, [sequences * positions, width].</summary>
    public void Backward(long sequences, Slot dx)
    {
        SequenceMaximumBackwardArgs args = new()
        {
            StructSize = (uint)sizeof(SequenceMaximumBackwardArgs),
            Sequences = sequences,
            Positions = _positions,
            Width = _x.Columns,
            Places = (int*)_places,
            Dy = OutputGradient.Data,
            DyRowStride = OutputGradient.RowStride,
            Dx = dx.Data,
            DxRowStride = dx.RowStride,
        };
        NativeStatus.Check(NativeMethods.SequenceMaximumBackward(_context.Stream.Native, &args));
    }
}
