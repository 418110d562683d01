#!/usr/bin/env python3
"""Writes src/CudaMoE/Encoders/UnicodeBases.Table.cs: what is left of each character when its canonical decomposition loses its nonspacing marks.

Usage: tools/unicode-bases.py > src/CudaMoE/Encoders/UnicodeBases.Table.cs
Characters come from the Unicode tables of the Python that runs it; the decomposition of an assigned character never changes. The version in the summary of UnicodeBases.cs is that of unicodedata.unidata_version.
"""
import unicodedata

HEAD = '''namespace CudaMoE.Encoders;

/// <summary>Written by tools/unicode-bases.py.</summary>
internal static partial class UnicodeBases
{
    // What is left, in hexadecimal, "+" between several characters; then, behind ":", the characters that become it; ";" ends a group.
    private const string Groups = """
'''

TAIL = '''
        """;
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
    print(HEAD + "\n".join(lines) + TAIL)


main()
