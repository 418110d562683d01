using System.Globalization;
using System.Text;

namespace CudaMoE.Cli.Starter;

/// <summary>What a sample of rows says about one column.</summary>
internal sealed class ColumnSample(string name)
{
    /// <summary>Distinct texts that are counted; beyond, the column has "many".</summary>
    public const int MaxDistinct = 50_000;

    private static readonly string[] MissingMarks = ["?", "NA", "N/A", "NULL", "null", "NaN", "nan", "None"];

    private readonly Dictionary<string, long> _counts = new(StringComparer.Ordinal);
    private readonly HashSet<string> _missingSeen = [];
    private readonly ListCounter[] _lists = [new('|'), new(';'), new(' ')];

    /// <summary>The column.</summary>
    public string Name { get; } = name;

    /// <summary>Rows of the sample.</summary>
    public long Rows { get; private set; }

    /// <summary>Rows without a value: empty, or a usual mark for that.</summary>
    public long Missing { get; private set; }

    /// <summary>The marks that were seen.</summary>
    public IReadOnlyCollection<string> MissingSeen => _missingSeen;

    /// <summary>Rows whose value is a number.</summary>
    public long Numbers { get; private set; }

    /// <summary>Rows whose value is a whole number.</summary>
    public long Integers { get; private set; }

    public double Minimum { get; private set; } = double.PositiveInfinity;

    public double Maximum { get; private set; } = double.NegativeInfinity;

    public double Sum { get; private set; }

    /// <summary>Rows with a value.</summary>
    public long Present => Rows - Missing;

    /// <summary>Distinct values, at most <see cref="MaxDistinct"/>.</summary>
    public int Distinct => _counts.Count;

    /// <summary>Values with their numbers of rows.</summary>
    public IReadOnlyDictionary<string, long> Counts => _counts;

    /// <summary>Whether every value is a number.</summary>
    public bool IsNumeric => Present > 0 && Numbers == Present;

    public bool IsInteger => Present > 0 && Integers == Present;

    public double Mean => Numbers == 0 ? double.NaN : Sum / Numbers;

    /// <summary>Whether a text is a usual mark for a missing value.</summary>
    public static bool IsMissingMark(string text) => Array.IndexOf(MissingMarks, text) >= 0;

    /// <summary>Counts a field.</summary>
    public void Add(ReadOnlySpan<byte> field)
    {
        Rows++;
        string text = Encoding.UTF8.GetString(field);
        if (text.Length == 0 || IsMissingMark(text))
        {
            Missing++;
            if (text.Length > 0)
                _missingSeen.Add(text);
            return;
        }

        if (_counts.TryGetValue(text, out long count))
            _counts[text] = count + 1;
        else if (_counts.Count < MaxDistinct)
            _counts.Add(text, 1);
        if (double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double value) && double.IsFinite(value))
        {
            Numbers++;
            if (value == Math.Floor(value) && Math.Abs(value) < 1e15)
                Integers++;
            Minimum = Math.Min(Minimum, value);
            Maximum = Math.Max(Maximum, value);
            Sum += value;
        }

        foreach (ListCounter list in _lists)
            list.Add(text);
    }

    /// <summary>The median of the sample's numbers.</summary>
    public double Median()
    {
        long half = (Numbers + 1) / 2;
        IEnumerable<(double Value, long Count)> numbers = _counts
            .Select(p => (Parsed: double.TryParse(p.Key, NumberStyles.Float, CultureInfo.InvariantCulture, out double v), v, p.Value))
            .Where(p => p.Parsed)
            .Select(p => (p.v, p.Value));
        foreach ((double value, long count) in numbers.OrderBy(n => n.Value))
        {
            half -= count;
            if (half <= 0)
                return value;
        }

        return double.NaN;
    }

    /// <summary>The character that parts several values in one field, if most rows have it; null if none does.</summary>
    /// <param name="parts">The number of values when every row has the same; else 0.</param>
    /// <param name="numbers">Whether all values are numbers.</param>
    /// <param name="longest">Most values of a row.</param>
    public char? ListSeparator(out int parts, out bool numbers, out int longest)
    {
        // A blank parts ordinary text into words, so it counts only between numbers.
        ListCounter? best = _lists.Where(l => l.Rows * 10 >= Present && l.Rows > 0 && (l.Separator != ' ' || l.AllNumbers)).MaxBy(l => l.Rows);
        parts = best is { Even: true } ? best.Longest : 0;
        numbers = best?.AllNumbers ?? false;
        longest = best?.Longest ?? 0;
        return best?.Separator;
    }

    private sealed class ListCounter(char separator)
    {
        private int _shortest = int.MaxValue;

        public char Separator { get; } = separator;

        /// <summary>Rows with more than one value.</summary>
        public long Rows { get; private set; }

        public int Longest { get; private set; }

        public bool AllNumbers { get; private set; } = true;

        public bool Even => _shortest == Longest;

        public void Add(string text)
        {
            int parts = 0;
            foreach (Range range in text.AsSpan().Split(Separator))
            {
                parts++;
                AllNumbers = AllNumbers && double.TryParse(text.AsSpan()[range], NumberStyles.Float, CultureInfo.InvariantCulture, out _);
            }

            if (parts > 1)
                Rows++;
            Longest = Math.Max(Longest, parts);
            _shortest = Math.Min(_shortest, parts);
        }
    }
}
