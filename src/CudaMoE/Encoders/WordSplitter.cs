using System.Globalization;
using System.Text;

namespace CudaMoE.Encoders;

/// <summary>What <see cref="WordSplitter"/> does to a text before it is cut.</summary>
/// <param name="LowerCase">Letters become lower case, each by itself: a final sigma is one like any other.</param>
/// <param name="StripAccents">Characters are decomposed and nonspacing marks dropped.</param>
/// <param name="SplitCjk">Each Chinese character is a word of its own.</param>
internal readonly record struct WordRules(bool LowerCase, bool StripAccents, bool SplitCjk);

/// <summary>
/// BERT's basic tokenization (Devlin et al. 2019, the published code): control characters go, white space parts words, each punctuation mark is a word, and
/// as <see cref="WordRules"/> say letters lose case and accents, and Chinese characters stand alone.
/// </summary>
/// <remarks>Not thread-safe: it keeps its buffers.</remarks>
internal sealed class WordSplitter(WordRules rules)
{
    private readonly StringBuilder _clean = new();
    private readonly StringBuilder _word = new();

    /// <summary>Calls <paramref name="take"/> with each word in order.</summary>
    public void Split(ReadOnlySpan<char> text, Action<StringBuilder> take)
    {
        _clean.Clear();
        foreach (Rune rune in text.EnumerateRunes())
            Clean(rune);
        foreach (ReadOnlyMemory<char> chunk in _clean.GetChunks())
            Cut(chunk.Span, take);
        End(take);
    }

    /// <summary>One of the blocks of Chinese characters; Hangul, Hiragana and Katakana are words with spaces, or are treated as such.</summary>
    private static bool IsCjk(int value) => value
        is >= 0x4E00 and <= 0x9FFF
        or >= 0x3400 and <= 0x4DBF
        or >= 0x20000 and <= 0x2A6DF
        or >= 0x2A700 and <= 0x2B73F
        or >= 0x2B740 and <= 0x2B81F
        or >= 0x2B820 and <= 0x2CEAF
        or >= 0xF900 and <= 0xFAFF
        or >= 0x2F800 and <= 0x2FA1F;

    /// <summary>What Unicode calls punctuation, and every ASCII sign that is no letter, digit or blank, "$" and "^" among them.</summary>
    private static bool IsPunctuation(Rune rune) => rune.IsAscii
        ? rune.Value is > 32 and < 127 && !Rune.IsLetterOrDigit(rune)
        : Rune.IsPunctuation(rune);

    private static bool IsControl(Rune rune) => Rune.GetUnicodeCategory(rune)
        is UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.PrivateUse or UnicodeCategory.OtherNotAssigned or UnicodeCategory.Surrogate;

    private void Clean(Rune rune)
    {
        if (rune.IsAscii)
        {
            char letter = (char)rune.Value;
            if (letter is ' ' or '\t' or '\n' or '\r')
                _clean.Append(' ');
            else if (letter is >= ' ' and < (char)127)
                _clean.Append(rules.LowerCase ? char.ToLowerInvariant(letter) : letter);
        }
        else if (Rune.IsWhiteSpace(rune) && rune.Value != 0x85)
        {
            _clean.Append(' ');
        }
        else if (rune != Rune.ReplacementChar && !IsControl(rune))
        {
            bool alone = rules.SplitCjk && IsCjk(rune.Value);
            if (alone)
                _clean.Append(' ');
            Fold(rune);
            if (alone)
                _clean.Append(' ');
        }
    }

    private void Fold(Rune rune)
    {
        int start = _clean.Length;
        if (rules.StripAccents)
            UnicodeBases.Append(rune, _clean);
        else
            Append(_clean, rune);
        if (!rules.LowerCase)
            return;

        // The runtime's simple mapping leaves this letter alone; it is the one whose lower case is always two characters.
        if (rune.Value == 0x130 && !rules.StripAccents)
        {
            _clean.Length = start;
            _clean.Append("i\u0307");
            return;
        }

        Span<char> folded = stackalloc char[8];
        int length = _clean.Length - start;
        if (length == 0)
            return;
        _clean.CopyTo(start, folded, length);
        _clean.Length = start;
        foreach (Rune part in folded[..length].EnumerateRunes())
            Append(_clean, Rune.ToLowerInvariant(part));
    }

    private static void Append(StringBuilder text, Rune rune)
    {
        Span<char> units = stackalloc char[2];
        text.Append(units[..rune.EncodeToUtf16(units)]);
    }

    private void Cut(ReadOnlySpan<char> clean, Action<StringBuilder> take)
    {
        for (int i = 0; i < clean.Length; i++)
        {
            char unit = clean[i];
            Rune rune;
            if (char.IsSurrogate(unit))
            {
                // Halves of a pair may lie in two chunks.
                _word.Append(unit);
                if (!char.IsLowSurrogate(unit))
                    continue;
                rune = new(_word[^2], unit);
                _word.Length -= 2;
            }
            else
            {
                rune = new(unit);
            }

            if (unit == ' ')
            {
                End(take);
            }
            else if (IsPunctuation(rune))
            {
                End(take);
                Append(_word, rune);
                End(take);
            }
            else
            {
                Append(_word, rune);
            }
        }
    }

    private void End(Action<StringBuilder> take)
    {
        if (_word.Length == 0)
            return;
        take(_word);
        _word.Clear();
    }
}
