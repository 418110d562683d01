using System.Globalization;
using System.IO.Compression;
using System.Text;
using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Cli.Starter;

/// <summary>Finds out how a delimited file is written, from its first lines.</summary>
internal static class TextLayout
{
    private const int HeadBytes = 1 << 18;
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
        if (header ?? (columns is null && LooksLikeNames(first)))
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
        && fields.All(f => f.Length > 0 && !ColumnSample.IsMissingMark(f) && !double.TryParse(f, NumberStyles.Float, CultureInfo.InvariantCulture, out _));

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

    private static List<string> Head(string path)
    {
        try
        {
            using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.Read);
            using Stream text = path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase) ? new GZipStream(file, CompressionMode.Decompress) : file;
            byte[] head = new byte[HeadBytes];
            int length = text.ReadAtLeast(head, head.Length, throwOnEndOfStream: false);
            string[] lines = Encoding.UTF8.GetString(head, 0, length).TrimStart('\ufeff').Split('\n');
            // The last line may be cut by the end of the head.
            int whole = length == head.Length && lines.Length > 1 ? lines.Length - 1 : lines.Length;
            List<string> filled = [.. lines.Take(whole).Select(l => l.TrimEnd('\r')).Where(l => l.Trim().Length > 0).Take(HeadLines)];
            return filled.Count > 0 ? filled : throw new DataException("the file is empty", path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            throw new DataException($"{path}: cannot be read: {e.Message}", e);
        }
    }
}
