using System.Globalization;
using System.Text;

namespace CudaMoE.Data;

/// <summary>Compares byte strings; lets a dictionary keyed by arrays be asked with spans, so that a known text costs no
/// allocation.</summary>
internal sealed class Utf8Comparer : IEqualityComparer<byte[]>, IAlternateEqualityComparer<ReadOnlySpan<byte>, byte[]>, IComparer<byte[]>
{
    public static readonly Utf8Comparer Instance = new();

    public bool Equals(byte[]? x, byte[]? y) => x.AsSpan().SequenceEqual(y);

    public int GetHashCode(byte[] obj) => GetHashCode(obj.AsSpan());

    public bool Equals(ReadOnlySpan<byte> alternate, byte[] other) => alternate.SequenceEqual(other);

    public int GetHashCode(ReadOnlySpan<byte> alternate) => (int)XxHash64.Hash(alternate);

    public byte[] Create(ReadOnlySpan<byte> alternate) => alternate.ToArray();

    public int Compare(byte[]? x, byte[]? y) => x.AsSpan().SequenceCompareTo(y);
}

/// <summary>Small helpers for UTF-8 fields.</summary>
internal static class Utf8Text
{
    /// <summary>Whether the text is a finite number in the invariant culture (no thousands separators), and which.</summary>
    public static bool TryParseNumber(ReadOnlySpan<byte> text, out double value)
    {
        // Up to 15 digits fit a double exactly; most numbers of a data file are such integers.
        if (text.Length is > 0 and <= 15)
        {
            long integer = 0;
            int digits = 0;
            while (digits < text.Length && (uint)(text[digits] - '0') <= 9)
                integer = (integer * 10) + text[digits++] - '0';
            if (digits == text.Length)
            {
                value = integer;
                return true;
            }
        }

        return double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out value) && double.IsFinite(value);
    }

    /// <summary>Drops blanks and tabs at both ends.</summary>
    public static ReadOnlySpan<byte> Trim(ReadOnlySpan<byte> text)
    {
        int start = 0;
        int end = text.Length;
        while (start < end && text[start] is (byte)' ' or (byte)'\t')
            start++;
        while (end > start && text[end - 1] is (byte)' ' or (byte)'\t')
            end--;
        return text[start..end];
    }

    /// <summary>The text in quotes for a message, cut after 60 characters.</summary>
    public static string Quote(ReadOnlySpan<byte> text)
    {
        string value = Encoding.UTF8.GetString(text[..Math.Min(text.Length, 300)]);
        return value.Length <= 60 ? $"\"{value}\"" : $"\"{value[..60]}...\"";
    }
}
