namespace CudaMoE.Metrics;

/// <summary>Sorts row numbers by 32-bit keys, stably: radix sort in three passes of 11 bits over pairs of key and row.</summary>
internal sealed class ScoreOrder
{
    private const int Bits = 11;
    private const int Bins = 1 << Bits;

    private readonly int[] _starts = new int[Bins];
    private ulong[] _pairs = [];
    private ulong[] _other = [];

    /// <summary>Rows 0 .. count-1 in ascending order of their scores, equal scores in the order of the rows. Valid until the next sort.</summary>
    public ReadOnlySpan<ulong> ByScore(ReadOnlySpan<float> scores)
    {
        Reserve(scores.Length);
        for (int row = 0; row < scores.Length; row++)
        {
            // Adding 0 turns -0 to 0, so that both are equal; then negative numbers are reversed and moved below the positive ones.
            uint bits = BitConverter.SingleToUInt32Bits(scores[row] + 0f);
            uint key = (bits & 0x8000_0000) != 0 ? ~bits : bits | 0x8000_0000;
            _pairs[row] = ((ulong)key << 32) | (uint)row;
        }

        return Sort(scores.Length);
    }

    /// <summary>The rows of the last sort in ascending order of their groups, within a group as they were.</summary>
    public ReadOnlySpan<ulong> ThenByGroup(ReadOnlySpan<int> groups)
    {
        for (int i = 0; i < groups.Length; i++)
        {
            uint row = (uint)_pairs[i];
            _pairs[i] = ((ulong)((uint)groups[(int)row] ^ 0x8000_0000) << 32) | row;
        }

        return Sort(groups.Length);
    }

    private ReadOnlySpan<ulong> Sort(int count)
    {
        for (int shift = 32; shift < 64; shift += Bits)
        {
            _starts.AsSpan().Clear();
            ReadOnlySpan<ulong> source = _pairs.AsSpan(0, count);
            foreach (ulong pair in source)
                _starts[(int)(pair >> shift) & (Bins - 1)]++;
            int next = 0;
            for (int bin = 0; bin < Bins; bin++)
                (_starts[bin], next) = (next, next + _starts[bin]);
            foreach (ulong pair in source)
                _other[_starts[(int)(pair >> shift) & (Bins - 1)]++] = pair;
            (_pairs, _other) = (_other, _pairs);
        }

        return _pairs.AsSpan(0, count);
    }

    private void Reserve(int count)
    {
        if (_pairs.Length >= count)
            return;
        _pairs = GC.AllocateUninitializedArray<ulong>(count);
        _other = GC.AllocateUninitializedArray<ulong>(count);
    }
}
