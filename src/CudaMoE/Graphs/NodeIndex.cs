using System.Runtime.InteropServices;
using CudaMoE.Data;

namespace CudaMoE.Graphs;

/// <summary>Numbers texts in the order of their appearance: open addressing over XXH64, with the texts one after the other.</summary>
internal sealed class NodeIndex
{
    private static readonly int MaxTextBytes = Array.MaxLength;
    private byte[] _text = new byte[1 << 16];
    private int _textLength;
    private readonly List<int> _ends = [];
    private readonly List<ulong> _hashes = [];
    private int[] _slots = new int[1 << 10];

    public NodeIndex() => Array.Fill(_slots, -1);

    public int Count => _ends.Count;

    /// <summary>XXH64 of each text.</summary>
    public ReadOnlySpan<ulong> Hashes => CollectionsMarshal.AsSpan(_hashes);

    public ReadOnlySpan<byte> Text(int node)
    {
        int start = node == 0 ? 0 : _ends[node - 1];
        return _text.AsSpan(start, _ends[node] - start);
    }

    /// <summary>The number of a text; a new one where <paramref name="added"/> says so.</summary>
    public int Add(ReadOnlySpan<byte> text, out bool added)
    {
        ulong hash = XxHash64.Hash(text);
        int slot = Slot(text, hash);
        added = _slots[slot] < 0;
        if (!added)
            return _slots[slot];
        int node = Count;
        if (text.Length > MaxTextBytes - _textLength || node == int.MaxValue - 1)
            throw new DataException($"the ids of nodes take more than {MaxTextBytes:N0} bytes, the most that a graph can hold");
        if (_textLength + text.Length > _text.Length)
            Array.Resize(ref _text, (int)Math.Min(MaxTextBytes, Math.Max(_text.Length * 2L, _textLength + text.Length)));
        text.CopyTo(_text.AsSpan(_textLength));
        _textLength += text.Length;
        _ends.Add(_textLength);
        _hashes.Add(hash);
        _slots[slot] = node;
        if (Count > _slots.Length / 2)
            Grow();
        return node;
    }

    /// <summary>The number of a text, or -1.</summary>
    public int Find(ReadOnlySpan<byte> text) => _slots[Slot(text, XxHash64.Hash(text))];

    private int Slot(ReadOnlySpan<byte> text, ulong hash)
    {
        int mask = _slots.Length - 1;
        int slot = (int)hash & mask;
        while (_slots[slot] >= 0 && !(_hashes[_slots[slot]] == hash && Text(_slots[slot]).SequenceEqual(text)))
            slot = (slot + 1) & mask;
        return slot;
    }

    private void Grow()
    {
        if (_slots.Length >= 1 << 30)
            throw new DataException($"a graph has at most {1 << 29:N0} users or items");
        _slots = new int[_slots.Length * 2];
        Array.Fill(_slots, -1);
        int mask = _slots.Length - 1;
        for (int node = 0; node < Count; node++)
        {
            int slot = (int)_hashes[node] & mask;
            while (_slots[slot] >= 0)
                slot = (slot + 1) & mask;
            _slots[slot] = node;
        }
    }
}
