using System.Text;
using CudaMoE.Checkpoints;

namespace CudaMoE.Encoders;

/// <summary>How a <see cref="WordPieceTokenizer"/> treats texts, as <c>tokenizer_config.json</c> says.</summary>
public sealed record WordPieceOptions
{
    /// <summary><c>do_lower_case</c>.</summary>
    public bool LowerCase { get; init; } = true;

    /// <summary><c>strip_accents</c>; null = as <see cref="LowerCase"/>.</summary>
    public bool? StripAccents { get; init; }

    /// <summary><c>tokenize_chinese_chars</c>: whether each Chinese character is a word.</summary>
    public bool SplitCjk { get; init; } = true;

    /// <summary><c>unk_token</c>: stands for a word that no pieces make.</summary>
    public string Unknown { get; init; } = "[UNK]";

    /// <summary><c>cls_token</c>: comes first.</summary>
    public string Start { get; init; } = "[CLS]";

    /// <summary><c>sep_token</c>: ends each text.</summary>
    public string Separator { get; init; } = "[SEP]";

    /// <summary><c>pad_token</c>: fills up shorter texts of a batch, and is not seen.</summary>
    public string Padding { get; init; } = "[PAD]";

    /// <summary><c>mask_token</c>: recognised in texts when the vocabulary has it.</summary>
    public string Mask { get; init; } = "[MASK]";
}

/// <summary>
/// Cuts texts into pieces of words, as BERT reads them: basic tokenization, then for each word the longest piece of the vocabulary from the left, again and
/// again (Wu et al. 2016; Devlin et al. 2019). A word that cannot be cut so, or that is longer than <see cref="LongestWord"/> characters, is unknown.
/// </summary>
/// <remarks>Special tokens that a text spells out ("[SEP]") are these tokens, as in the reference. Not thread-safe.</remarks>
public sealed class WordPieceTokenizer
{
    /// <summary>Characters of a word; a longer one is unknown.</summary>
    public const int LongestWord = 100;

    private const string Continued = "##";
    private readonly Dictionary<string, int> _first = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int> _later = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _firstLookup;
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _laterLookup;
    private readonly (string Text, int Id)[] _special;
    private readonly WordSplitter _splitter;
    private readonly Action<StringBuilder> _take;
    private readonly List<int> _pieces = [];
    private readonly int _longestPiece;
    private readonly int _unknown;
    private readonly int _start;
    private readonly int _separator;
    private readonly char[] _word = new char[2 * LongestWord];

    /// <param name="vocabulary">The pieces by their number; pieces that go on within a word begin with "##".</param>
    /// <param name="options">How texts are treated.</param>
    /// <exception cref="ArgumentException">A piece is there twice, or a special token is missing; the message names it.</exception>
    public WordPieceTokenizer(IReadOnlyList<string> vocabulary, WordPieceOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(vocabulary);
        options ??= new();
        for (int id = 0; id < vocabulary.Count; id++)
        {
            string piece = vocabulary[id];
            bool later = piece.Length > Continued.Length && piece.StartsWith(Continued, StringComparison.Ordinal);
            string text = later ? piece[Continued.Length..] : piece;
            if (!(later ? _later : _first).TryAdd(text, id))
                throw new ArgumentException($"token \"{piece}\" is in lines {(later ? _later : _first)[text] + 1} and {id + 1}; each must be there once", nameof(vocabulary));
            _longestPiece = Math.Max(_longestPiece, text.Length);
        }

        VocabularySize = vocabulary.Count;
        _firstLookup = _first.GetAlternateLookup<ReadOnlySpan<char>>();
        _laterLookup = _later.GetAlternateLookup<ReadOnlySpan<char>>();
        _unknown = Special(options.Unknown, "unk_token");
        _start = Special(options.Start, "cls_token");
        _separator = Special(options.Separator, "sep_token");
        PaddingId = Special(options.Padding, "pad_token");
        string[] special = [options.Unknown, options.Start, options.Separator, options.Padding, options.Mask];
        _special = [.. special.Where(token => token.Length > 0 && _first.ContainsKey(token)).Distinct().Select(token => (token, _first[token]))];
        _splitter = new(new(options.LowerCase, options.StripAccents ?? options.LowerCase, options.SplitCjk));
        _take = AddWord;
    }

    /// <summary>Tokens of the vocabulary.</summary>
    public int VocabularySize { get; }

    /// <summary>The number of the padding token.</summary>
    public int PaddingId { get; }

    /// <summary>Reads <c>vocab.txt</c>, a token a line.</summary>
    /// <exception cref="CheckpointFormatException">The file has a token twice or lacks a special one.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static WordPieceTokenizer Read(string path, WordPieceOptions? options = null)
    {
        string[] lines = File.ReadAllText(path).Split('\n');
        int count = lines.Length > 0 && lines[^1].Length == 0 ? lines.Length - 1 : lines.Length;
        try
        {
            return new([.. lines.Take(count).Select(line => line.TrimEnd('\r'))], options);
        }
        catch (ArgumentException error)
        {
            throw new CheckpointFormatException(path, error.Message.Split(" (Parameter")[0], error);
        }
    }

    /// <summary>The numbers of a text's tokens: start, pieces, separator.</summary>
    /// <param name="text">The text.</param>
    /// <param name="maxTokens">Tokens at most, at least 2; pieces at the end are left out.</param>
    public int[] Encode(string text, int maxTokens = int.MaxValue) => Encode(text, maxTokens, out _);

    /// <summary>The numbers of a text's tokens: start, pieces, separator.</summary>
    /// <param name="text">The text.</param>
    /// <param name="maxTokens">Tokens at most, at least 2; pieces at the end are left out.</param>
    /// <param name="truncated">Whether pieces were left out.</param>
    public int[] Encode(string text, int maxTokens, out bool truncated)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxTokens, 2);
        _pieces.Clear();
        AddText(text);
        int kept = Math.Min(_pieces.Count, maxTokens - 2);
        truncated = kept < _pieces.Count;
        int[] ids = new int[kept + 2];
        ids[0] = _start;
        _pieces.CopyTo(0, ids, 1, kept);
        ids[^1] = _separator;
        return ids;
    }

    private int Special(string token, string key) => _first.TryGetValue(token, out int id)
        ? id
        : throw new ArgumentException($"has no token \"{token}\", which is the {key}");

    /// <summary>Special tokens are found in the text as it stands, before anything is folded; of two that begin at the same place the longer one.</summary>
    private void AddText(ReadOnlySpan<char> text)
    {
        while (!text.IsEmpty)
        {
            int at = -1;
            int length = 0;
            int id = 0;
            foreach ((string token, int number) in _special)
            {
                int place = text.IndexOf(token, StringComparison.Ordinal);
                if (place >= 0 && (at < 0 || place < at || (place == at && token.Length > length)))
                    (at, length, id) = (place, token.Length, number);
            }

            _splitter.Split(at < 0 ? text : text[..at], _take);
            if (at < 0)
                return;
            _pieces.Add(id);
            text = text[(at + length)..];
        }
    }

    private void AddWord(StringBuilder word)
    {
        int length = word.Length;
        if (length > 2 * LongestWord)
        {
            _pieces.Add(_unknown);
            return;
        }

        word.CopyTo(0, _word, length);
        ReadOnlySpan<char> letters = _word.AsSpan(0, length);
        int pairs = 0;
        foreach (char unit in letters)
            pairs += char.IsHighSurrogate(unit) ? 1 : 0;
        int before = _pieces.Count;
        if (length - pairs > LongestWord || !Match(letters))
        {
            _pieces.RemoveRange(before, _pieces.Count - before);
            _pieces.Add(_unknown);
        }
    }

    /// <summary>Cuts a word from the left, each time at the longest piece; false when a rest has none.</summary>
    private bool Match(ReadOnlySpan<char> letters)
    {
        int start = 0;
        while (start < letters.Length)
        {
            int end = Math.Min(letters.Length, start + _longestPiece);
            int id = -1;
            while (end > start && !(start == 0 ? _firstLookup : _laterLookup).TryGetValue(letters[start..end], out id))
                end--;
            if (end == start)
                return false;
            _pieces.Add(id);
            start = end;
        }

        return true;
    }
}
