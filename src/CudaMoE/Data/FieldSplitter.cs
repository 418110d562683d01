using CudaMoE.Description;

namespace CudaMoE.Data;

/// <summary>Walks over the values of a multi-hot or vector field without allocating.</summary>
internal ref struct FieldSplitter(ReadOnlySpan<byte> text, byte separator, bool trim)
{
    private ReadOnlySpan<byte> _rest = text;
    private bool _done = text.IsEmpty;

    public ReadOnlySpan<byte> Current { get; private set; }

    public bool MoveNext()
    {
        if (_done)
            return false;
        int end = _rest.IndexOf(separator);
        ReadOnlySpan<byte> piece = end < 0 ? _rest : _rest[..end];
        _rest = end < 0 ? default : _rest[(end + 1)..];
        _done = end < 0;
        Current = trim ? Utf8Text.Trim(piece) : piece;
        return true;
    }

    public static byte Separator(FeatureDescription feature) => feature.ValueSeparator is [<= '\x7f' and var separator]
        ? (byte)separator
        : throw new DataException(
            $"feature \"{feature.Name}\": value_separator is \"{feature.ValueSeparator}\"; it must be one ASCII character");
}
