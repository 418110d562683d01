#!/usr/bin/env python3
"""Writes src/CudaMoE/Encoders/UnicodeBases.cs: what is left of each character when its canonical decomposition loses its nonspacing marks.

Usage: tools/unicode-bases.py > src/CudaMoE/Encoders/UnicodeBases.cs
Characters come from the Unicode tables of the Python that runs it; the decomposition of an assigned character never changes.
"""
import unicodedata

HEAD = '''using System.Globalization;
using System.Text;

namespace CudaMoE.Encoders;

/// <summary>
/// The canonical decomposition of single characters (Unicode {version}) without its nonspacing marks: "é" becomes "e". The runtime's own normalisation
/// depends on a library of the operating system and does nothing where a program turns that off, so the table is part of this library.
/// </summary>
/// <remarks>Written by tools/unicode-bases.py. Syllables of Hangul follow from arithmetic (Unicode Standard, section 3.12) and are not listed.</remarks>
internal static class UnicodeBases
{{
    // What is left, in hexadecimal, "+" between several characters; then, behind ":", the characters that become it; ";" ends a group.
    private const string Groups = """
'''

TAIL = '''
        """;

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
}'''


def main():
    groups = {}
    for code in range(0x110000):
        if 0xD800 <= code < 0xE000 or 0xAC00 <= code <= 0xD7A3:
            continue
        decomposed = unicodedata.normalize("NFD", chr(code))
        if decomposed != chr(code):
            left = "+".join(f"{ord(c):X}" for c in decomposed if unicodedata.category(c) != "Mn")
            groups.setdefault(left, []).append(f"{code:X}")
    lines = []
    line = ""
    for left, codes in groups.items():
        group = f"{left}:{','.join(codes)};"
        if line and len(line) + len(group) > 150:
            lines.append(" " * 8 + line)
            line = ""
        line += group
    lines.append(" " * 8 + line)
    print(HEAD.format(version=unicodedata.unidata_version) + "\n".join(lines) + TAIL)


main()
