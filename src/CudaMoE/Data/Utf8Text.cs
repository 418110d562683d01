using System.Globalization;
using System.Text;

namespace CudaMoE.Data;

/// <summary>Compares byte strings; lets a dictionary keyed by arrays be asked with spans, so that a known text costs no allocation.</summary>
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

    /// <summary>", did you mean X?" for the candidate nearest to a misspelt name, else the list of the first candidates.</summary>
    public static string Suggest(string name, IReadOnlyList<string> candidates)
    {
        string? best = null;
        int bestDistance = Math.Max(2, name.Length / 3) + 1;
        foreach (string candidate in candidates)
        {
            int distance = Distance(name.ToUpperInvariant(), candidate.ToUpperInvariant());
            if (distance < bestDistance)
            {
                bestDistance = distance;
                best = candidate;
            }
        }

        if (best is not null)
            return $"did you mean \"{best}\"?";
        string list = string.Join(", ", candidates.Take(20));
        return candidates.Count > 20 ? $"it has {list} and {candidates.Count - 20} more" : $"it has {list}";
    }

    // Levenshtein distance, one row of the table at a time.
    private static int Distance(string a, string b)
    {
        int[] row = new int[b.Length + 1];
        for (int j = 0; j <= b.Length; j++)
            row[j] = j;
        for (int i = 1; i <= a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                int substitution = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(substitution, Math.Min(row[j], row[j - 1]) + 1);
            }
        }

        return row[b.Length];
    }
}
