using System.Runtime.InteropServices;
using CudaMoE.Data;

namespace CudaMoE.Layers;

/// <summary>
/// The ids of a sequence, position by position: each position is a look-up feature of its own whose bags hold one id, or none where the sample's sequence is
/// shorter. In host memory, filled anew for every batch.
/// </summary>
internal sealed unsafe class SequenceColumns : IDisposable
{
    private readonly int _input;
    private readonly int _positions;
    private readonly bool _padded;
    private readonly bool _spaced;
    private readonly long[] _starts;
    private int* _ids;
    private int* _offsets;
    private int* _lengths;

    /// <param name="input">The sequence among the batch's inputs.</param>
    /// <param name="positions">Its positions.</param>
    /// <param name="maxRows">Rows of the largest batch.</param>
    /// <param name="padded">Whether positions behind a sample's last value hold id 0.</param>
    /// <param name="spaced">Whether each position has room for an id of every sample, so that positions begin at the same places in all batches of as many rows.</param>
    public SequenceColumns(int input, int positions, int maxRows, bool padded, bool spaced)
    {
        _input = input;
        _positions = positions;
        _padded = padded;
        _spaced = spaced;
        _starts = new long[positions + 1];
        _ids = (int*)NativeMemory.AlignedAlloc((nuint)((long)positions * maxRows * sizeof(int)), 64);
        _offsets = (int*)NativeMemory.AlignedAlloc((nuint)(positions * (maxRows + 1L) * sizeof(int)), 64);
        _lengths = (int*)NativeMemory.AlignedAlloc((nuint)(maxRows * sizeof(int)), 64);
    }

    /// <summary>The ids of all positions, one position after the other; in the room behind a position's last bag zeros, which are no bag's.</summary>
    public int* Ids => _ids;

    /// <summary>Number of <see cref="Ids"/>, with that room.</summary>
    public long Count => _starts[_positions];

    /// <summary>[positions, rows + 1] starts of each position's bags.</summary>
    public int* Offsets => _offsets;

    /// <summary>[rows] values of each sample's sequence.</summary>
    public int* Lengths => _lengths;

    /// <summary>First id of a position; of the number of positions: <see cref="Count"/>.</summary>
    public long Start(int position) => _starts[position];

    /// <summary>Sorts the bags of a batch by position.</summary>
    public void Fill(Batch batch)
    {
        int rows = batch.Rows;
        int* bags = batch.OffsetsPointer(_input);
        int* ids = batch.IdsPointer(_input);
        for (int row = 0; row < rows; row++)
            _lengths[row] = Math.Min(bags[row + 1] - bags[row], _positions);
        long next = 0;
        for (int position = 0; position < _positions; position++)
        {
            _starts[position] = next;
            int* offsets = _offsets + (position * (rows + 1L));
            for (int row = 0; row < rows; row++)
            {
                offsets[row] = (int)(next - _starts[position]);
                if (position < _lengths[row])
                    _ids[next++] = ids[bags[row] + position];
                else if (_padded)
                    _ids[next++] = 0;
            }

            offsets[rows] = (int)(next - _starts[position]);
            for (long end = (position + 1L) * rows; _spaced && next < end; next++)
                _ids[next] = 0;
        }

        _starts[_positions] = next;
    }

    public void Dispose()
    {
        NativeMemory.AlignedFree(_ids);
        NativeMemory.AlignedFree(_offsets);
        NativeMemory.AlignedFree(_lengths);
        _ids = _offsets = _lengths = null;
    }
}
