using CudaMoE.Checkpoints;
using CudaMoE.Encoders;
using CudaMoE.Tests.Support;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Encoders;

/// <summary>WordPiece: examples of the published code and its tests, the corners of Unicode, and what holds for any text.</summary>
public sealed class WordPieceTokenizerTests(ITestOutputHelper output)
{
    private static readonly string[] Special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

    /// <summary>The examples of the published tokenizer's own tests.</summary>
    [Theory]
    [InlineData("unwanted runn", "want ##want ##ed wa un runn ##ing", "un ##want ##ed runn")]
    [InlineData("unwanted running", "want ##want ##ed wa un runn ##ing", "un ##want ##ed runn ##ing")]
    [InlineData("unwantedX running", "want ##want ##ed wa un runn ##ing", "[UNK] runn ##ing")]
    [InlineData("UNwant\u00E9d,running", "want ##want ##ed wa un runn ##ing , low lowest", "un ##want ##ed , runn ##ing")]
    [InlineData("unaffable", "un ##aff ##able ##a", "un ##aff ##able")]
    public void Pieces_OfPublishedExamples(string text, string pieces, string expected) => Assert.Equal(expected, Cut(text, pieces));

    /// <summary>A vocabulary of single letters would hide how words are parted, so here each word is a piece.</summary>
    [Theory]
    [InlineData(" \tHeLLo!how  \n Are yoU?  ", "hello ! how are you ?")]
    [InlineData("H\u00E9llo", "hello")]
    [InlineData("ah\u535A\u63A8zz", "ah \u535A \u63A8 zz")]
    [InlineData("hel\0lo\uFFFD a\u007Fb", "hello ab")]
    [InlineData("he\u00ADllo \u200Bzz\uFEFF", "hello zz")]
    [InlineData("hello\r\nhow\u00A0are\u3000you\u2028zz", "hello how are you zz")]
    [InlineData("a$b^c`d|e~f", "a $ b ^ c ` d | e ~ f")]
    [InlineData("\u00BFhow\u2014are\u201Cyou\u3002", "\u00BF how \u2014 are \u201C you \u3002")]
    [InlineData("\u00C5NGSTR\u00D6M \u0130 \u1EC6", "angstrom i e")]
    [InlineData("e\u0301\u0323", "e")]
    [InlineData("\u03A3\u03A3", "\u03C3\u03C3")]
    [InlineData("\uF900", "\u8C48")]
    [InlineData("\uD55C", "\u1112\u1161\u11AB")]
    [InlineData("a \uD83D\uDE42 b", "a \uD83D\uDE42 b")]
    [InlineData("a\uD840\uDC00b", "a \uD840\uDC00 b")]
    [InlineData("a\uD83D b\uDE42", "a b")]
    [InlineData("\u0085\u000B\uE000", "")]
    [InlineData("", "")]
    public void Words_AreCleanedFoldedAndParted(string text, string expected) => Assert.Equal(expected, Cut(text, expected));

    [Theory]
    [InlineData(false, null, "H\u00E9llo ABC", "H\u00E9llo ABC")]
    [InlineData(false, true, "H\u00E9llo", "Hello")]
    [InlineData(true, false, "H\u00E9LLO \u0130", "h\u00E9llo i\u0307")]
    public void CaseAndAccents_FollowTheOptions(bool lower, bool? strip, string text, string expected) =>
        Assert.Equal(expected, Cut(text, expected, new() { LowerCase = lower, StripAccents = strip }));

    [Fact]
    public void Chinese_WithoutSplitting_StaysOneWord() => Assert.Equal("ah\u535A\u63A8zz", Cut("ah\u535A\u63A8zz", "ah\u535A\u63A8zz", new() { SplitCjk = false }));

    [Fact]
    public void SpecialTokens_InATextAreThemselves_InOtherCaseTheyAreNot() =>
        Assert.Equal("a [SEP] [MASK] b [ sep ]", Cut("A [SEP][MASK]b [sep]", "a b [ sep ]"));

    [Theory]
    [InlineData(100, false)]
    [InlineData(101, true)]
    public void LongWords_AreUnknown_CountedInCharacters(int length, bool unknown)
    {
        string plain = Cut(new string('a', length), "a ##a");
        string pairs = Cut(string.Concat(Enumerable.Repeat("\U00010428", length)), "\U00010428 ##\U00010428");
        Assert.Equal(unknown, plain == "[UNK]");
        Assert.Equal(unknown, pairs == "[UNK]");
        if (!unknown)
            Assert.Equal(length, pairs.Split(' ').Length);
    }

    [Fact]
    public void LongTexts_AreCutBehindTheMostTokens()
    {
        WordPieceTokenizer tokenizer = new([.. Special, "a", "##b"]);
        Assert.Equal([2, 5, 6, 6, 3], tokenizer.Encode("abb abb", 5, out bool cut));
        Assert.True(cut);
        Assert.Equal([2, 5, 6, 6, 3], tokenizer.Encode("abb", 5, out cut));
        Assert.False(cut);
        Assert.Equal([2, 3], tokenizer.Encode("abb", 2));
        Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.Encode("abb", 1));
    }

    /// <summary>Any text: its tokens do not change by repetition, pieces join to the words of the splitter, and the longest match from the left is taken.</summary>
    [Fact]
    public void RandomTexts_PiecesJoinToTheirWords_AndEachIsTheLongest()
    {
        int seed = Random.Shared.Next();
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        const string letters = "abc";
        HashSet<string> pieces = [];
        foreach (char a in letters)
        {
            pieces.Add(a.ToString());
            foreach (char b in letters)
            {
                if (random.Next(2) == 0)
                    pieces.Add($"{a}{b}");
                if (random.Next(2) == 0)
                    pieces.Add($"##{a}{b}");
                if (random.Next(3) == 0)
                    pieces.Add($"##{a}{b}{a}");
            }

            if (random.Next(4) > 0)
                pieces.Add($"##{a}");
        }

        string[] vocabulary = [.. Special, .. pieces];
        WordPieceTokenizer tokenizer = new(vocabulary);
        for (int round = 0; round < 500; round++)
        {
            string[] words = [.. Enumerable.Range(0, random.Next(1, 5)).Select(_ => string.Concat(Enumerable.Range(0, random.Next(1, 9)).Select(_ => letters[random.Next(3)])))];
            List<string> expected = ["[CLS]"];
            foreach (string word in words)
                expected.AddRange(Greedy(word, pieces) ?? ["[UNK]"]);
            expected.Add("[SEP]");
            Assert.Equal(expected, tokenizer.Encode(string.Join(random.Next(2) == 0 ? " " : "\t\u00AD ", words)).Select(id => vocabulary[id]));
        }
    }

    /// <summary>Any sequence of UTF-16 units, halves of pairs included.</summary>
    [Fact]
    public void RandomUnits_NeverThrow_AndEveryTokenIsOfTheVocabulary()
    {
        int seed = Random.Shared.Next();
        output.WriteLine($"seed {seed}");
        Random random = new(seed);
        WordPieceTokenizer tokenizer = new([.. Special, "a", "##a", "!"]);
        for (int round = 0; round < 2000; round++)
        {
            string text = new([.. Enumerable.Range(0, random.Next(60)).Select(_ => random.Next(4) switch
            {
                0 => (char)random.Next(0x10000),
                1 => (char)random.Next(0xD800, 0xE000),
                2 => (char)random.Next(0x250),
                _ => 'a',
            })]);
            int[] ids = tokenizer.Encode(text);
            Assert.Equal((2, 3), (ids[0], ids[^1]));
            Assert.All(ids, id => Assert.InRange(id, 0, 7));
            Assert.Equal(ids, tokenizer.Encode(text));
        }
    }

    [Fact]
    public void Vocabulary_OfFiles_IsALineAToken_AndFaultsAreNamed()
    {
        using TemporaryFolder folder = new();
        File.WriteAllText(folder["crlf"], string.Join("\r\n", Special) + "\r\na\r\n");
        Assert.Equal([2, 5, 3], WordPieceTokenizer.Read(folder["crlf"]).Encode("a"));
        File.WriteAllText(folder["twice"], string.Join('\n', Special) + "\na\nb\na");
        Assert.Contains("token \"a\" is in lines 6 and 8", Error("twice"), StringComparison.Ordinal);
        File.WriteAllText(folder["missing"], "[PAD]\n[UNK]\n[CLS]\na");
        Assert.Contains("has no token \"[SEP]\", which is the sep_token", Error("missing"), StringComparison.Ordinal);

        string Error(string name) => Assert.Throws<CheckpointFormatException>(() => WordPieceTokenizer.Read(folder[name])).Message;
    }

    private static List<string>? Greedy(string word, HashSet<string> pieces)
    {
        List<string> found = [];
        for (int start = 0; start < word.Length;)
        {
            string mark = start > 0 ? "##" : "";
            string? longest = Enumerable.Range(1, word.Length - start).Reverse().Select(length => $"{mark}{word.AsSpan(start, length)}").FirstOrDefault(pieces.Contains);
            if (longest == null)
                return null;
            found.Add(longest);
            start += longest.Length - mark.Length;
        }

        return found;
    }

    /// <summary>The tokens between start and separator, with a vocabulary of the given pieces.</summary>
    private static string Cut(string text, string pieces, WordPieceOptions? options = null)
    {
        string[] vocabulary = [.. Special, .. pieces.Split(' ', StringSplitOptions.RemoveEmptyEntries).Distinct()];
        int[] ids = new WordPieceTokenizer(vocabulary, options).Encode(text);
        return string.Join(' ', ids[1..^1].Select(id => vocabulary[id]));
    }
}
