using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>
/// The maximum of each column over the positions of a sequence; its gradient goes to the first position that has it. The host takes part, so that on a device whose memory it cannot
/// read every pass waits for the device.
/// </summary>
internal sealed class SequenceMaximum
{
    private readonly LayerContext _context;
    private readonly Slot _x;
    private readonly int _positions;
    private readonly int _width;
    private readonly float[] _values;
    private readonly float[] _rows;
    private readonly int[] _lengths;
    private readonly int[] _places;

    /// <param name="context">The context whose rows are the sequences.</param>
    /// <param name="name">Name of its buffers.</param>
    /// <param name="x">[sequences * positions, width], rows without gaps.</param>
    /// <param name="positions">Positions of a sequence.</param>
    public SequenceMaximum(LayerContext context, string name, Slot x, int positions)
    {
        _context = context;
        _x = x;
        _positions = positions;
        _width = checked((int)x.Columns);
        Output = context.ReserveExact($"{name}.output", _width);
        if (context.Training)
            OutputGradient = context.ReserveExact($"{name}.gradient", _width);
        _values = new float[checked(context.MaxRows * positions * _width)];
        _rows = new float[context.MaxRows * _width];
        _places = new int[context.MaxRows * _width];
        _lengths = new int[context.MaxRows];
    }

    /// <summary>[sequences, width]; 0 for a sequence without positions.</summary>
    public Slot Output { get; }

    /// <summary>Where the gradient of <see cref="Output"/> is to be written for the backward; rows without gaps.</summary>
    public Slot OutputGradient { get; } = null!;

    /// <param name="sequences">Sequences of the batch.</param>
    /// <param name="lengths">[sequences] positions that count, the first ones, in device memory; null = all.</param>
    public unsafe void Forward(long sequences, int* lengths)
    {
        int count = checked((int)sequences);
        DeviceStream stream = _context.Stream;
        Span<float> values = _values.AsSpan(0, count * _positions * _width);
        stream.CopyToHost(_x.Pointer, values);
        if (lengths == null)
            Array.Fill(_lengths, _positions);
        else
            stream.CopyToHost((nint)lengths, _lengths.AsSpan(0, count));
        for (int s = 0; s < count; s++)
        {
            int first = s * _positions;
            for (int column = 0; column < _width; column++)
            {
                int best = -1;
                for (int position = 0; position < _lengths[s]; position++)
                {
                    if (best < 0 || values[((first + position) * _width) + column] > values[((first + best) * _width) + column])
                        best = position;
                }

                _places[(s * _width) + column] = best < 0 ? -1 : ((first + best) * _width) + column;
                _rows[(s * _width) + column] = best < 0 ? 0 : values[((first + best) * _width) + column];
            }
        }

        stream.CopyToDevice<float>(_rows.AsSpan(0, count * _width), Output.Pointer);
    }

    /// <summary>Writes the gradient of x, [sequences * positions, width], rows without gaps.</summary>
    public void Backward(long sequences, Slot dx)
    {
        int count = checked((int)sequences);
        DeviceStream stream = _context.Stream;
        stream.CopyToHost(OutputGradient.Pointer, _rows.AsSpan(0, count * _width));
        Span<float> values = _values.AsSpan(0, count * _positions * _width);
        values.Clear();
        for (int i = 0; i < count * _width; i++)
        {
            if (_places[i] >= 0)
                values[_places[i]] = _rows[i];
        }

        stream.CopyToDevice<float>(values, dx.Pointer);
    }
}
