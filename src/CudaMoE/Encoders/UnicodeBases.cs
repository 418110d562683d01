using System.Globalization;
using System.Text;

namespace CudaMoE.Encoders;

/// <summary>
/// The canonical decomposition of single characters (Unicode 14.0.0) without its nonspacing marks: "é" becomes "e". The runtime's own normalisation
/// depends on a library of the operating system and does nothing where a program turns that off, so the table is part of this library.
/// </summary>
/// <remarks>The table is written by tools/unicode-bases.py. Syllables of Hangul follow from arithmetic (Unicode Standard, section 3.12) and are not listed.</remarks>
internal static partial class UnicodeBases
{
    private const int FirstSyllable = 0xAC00;
    private const int LastSyllable = 0xD7A3;
    private const int Vowels = 21;
    private const int Trails = 28;

    private static readonly Dictionary<int, string> Bases = Parse();

    /// <summary>Appends what is left of a character; nothing for a nonspacing mark.</summary>
    public static void Append(Rune rune, StringBuilder text)
    {
        int value = rune.Value;
        if (value is >= FirstSyllable and <= LastSyllable)
        {
            int index = value - FirstSyllable;
            text.Append((char)(0x1100 + (index / (Vowels * Trails)))).Append((char)(0x1161 + (index / Trails % Vowels)));
            if (index % Trails > 0)
                text.Append((char)(0x11A7 + (index % Trails)));
        }
        else if (Bases.TryGetValue(value, out string? bases))
        {
            text.Append(bases);
        }
        else if (Rune.GetUnicodeCategory(rune) != UnicodeCategory.NonSpacingMark)
        {
            text.Append(rune.ToString());
        }
    }

    private static Dictionary<int, string> Parse()
    {
        Dictionary<int, string> bases = [];
        foreach (string group in Groups.Split(';', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            int colon = group.IndexOf(':', StringComparison.Ordinal);
            string text = string.Concat(group[..colon].Split('+', StringSplitOptions.RemoveEmptyEntries).Select(code => char.ConvertFromUtf32(Hex(code))));
            foreach (string code in group[(colon + 1)..].Split(','))
                bases.Add(Hex(code), text);
        }

        return bases;
    }

    private static int Hex(string code) => int.Parse(code, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
}
