using System.Globalization;
using System.Text;
using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Cli.Starter;

/// <summary>Finds out how a delimited file is written, from its first lines.</summary>
internal static class TextLayout
{
    private const int HeadLines = 50;
    private static readonly char[] Separators = [',', '\t', ';', '|'];

    /// <summary>The format of a file; what the user gave is kept, the rest is guessed.</summary>
    /// <param name="path">The file, plain or .gz.</param>
    /// <param name="separator">The separator; null = the one that parts the first lines most evenly.</param>
    /// <param name="header">Whether the first line names the columns; null = if it looks like names.</param>
    /// <param name="columns">Names for a file without a header; null = column_1, column_2, ...</param>
    /// <exception cref="DataException">The file cannot be read or holds nothing.</exception>
    public static FileFormat Detect(string path, char? separator, bool? header, IReadOnlyList<string>? columns)
    {
        List<string> lines = Head(path);
        char chosen = separator ?? GuessSeparator(lines);
        string[] first = Split(lines[0], chosen);
        if (header ?? (columns is null && (LooksLikeNames(first) || StandsAboveNumbers(first, lines, chosen))))
            return new() { Separator = chosen.ToString() };
        if (columns is not null && columns.Count != first.Length)
            throw new UsageException($"--columns names {columns.Count} columns, but the first line of {path} has {first.Length} fields");
        return new() { Separator = chosen.ToString(), Header = false, Columns = columns ?? [.. Enumerable.Range(1, first.Length).Select(i => $"column_{i}")] };
    }

    /// <summary>The separator whose number is above 0 and the same in most lines; a comma when there is none.</summary>
    public static char GuessSeparator(IReadOnlyList<string> lines)
    {
        (char Separator, int Even, int Fields) best = (',', 0, 1);
        foreach (char separator in Separators)
        {
            int[] counts = [.. lines.Select(line => Split(line, separator).Length)];
            int fields = counts[0];
            int even = counts.Count(c => c == fields);
            if (fields > 1 && (even > best.Even || (even == best.Even && fields > best.Fields)))
                best = (separator, even, fields);
        }

        return best.Separator;
    }

    /// <summary>Whether the fields of a first line are names rather than values: all given, all different, none a number.</summary>
    public static bool LooksLikeNames(IReadOnlyList<string> fields) =>
        fields.Distinct().Count() == fields.Count
        && fields.All(f => f.Length > 0 && !ColumnSample.IsMissingMark(f) && !IsNumber(f));

    /// <summary>The fields of a line, trimmed and without their quotes.</summary>
    public static string[] Split(string line, char separator)
    {
        List<string> fields = [];
        StringBuilder field = new();
        bool quoted = false;
        foreach (char c in line)
        {
            if (c == '"')
                quoted = !quoted;
            if (c == separator && !quoted)
            {
                fields.Add(field.ToString().Trim().Trim('"'));
                field.Clear();
            }
            else
            {
                field.Append(c);
            }
        }

        fields.Add(field.ToString().Trim().Trim('"'));
        return [.. fields];
    }

    // Names may repeat or be missing by mistake; the reader of the file says so. Nothing but names stands above a column of numbers.
    private static bool StandsAboveNumbers(string[] fields, List<string> lines, char separator)
    {
        string[][] rows = [.. lines.Skip(1).Select(line => Split(line, separator))];
        return rows.Length > 0 && !Array.Exists(fields, IsNumber)
            && Enumerable.Range(0, fields.Length).Any(i => fields[i].Length > 0 && !ColumnSample.IsMissingMark(fields[i]) && Array.TrueForAll(rows, row => i < row.Length && IsNumber(row[i])));
    }

    private static bool IsNumber(string text) => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out _);

    private static List<string> Head(string path)
    {
        // With a separator that text does not have, a row is a line, decompressed and decoded as data is.
        using DelimitedReader reader = new(path, new() { Separator = "\u001E", Quote = null, Header = false, Columns = ["line"] });
        List<string> lines = [];
        while (lines.Count < HeadLines && reader.Read())
            lines.Add(Encoding.UTF8.GetString(reader.Field(0)));
        return lines.Any(l => l.Length > 0) ? lines : throw new DataException("the file is empty", path);
    }
}
