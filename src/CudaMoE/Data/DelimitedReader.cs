using System.Buffers;
using System.Text;
using System.Text.Unicode;
using CsvHelper;
using CudaMoE.Description;

namespace CudaMoE.Data;

/// <summary>
/// Reads a delimited text file (CSV, TSV; plain or gzip; UTF-8, or UTF-16 with a byte order mark) row by row, in constant memory. Fields
/// are spans of UTF-8 bytes, trimmed and unquoted, valid until the next <see cref="Read"/>; a row costs no allocation. The parser is
/// CsvHelper's; this class adds decompression and the checks and errors of data files. Not thread-safe.
/// </summary>
/// <remarks>
/// LF, CRLF and CR end lines, the last line may lack its end, empty lines are passed over. A quote inside an unquoted field is text; text
/// behind a closing quote and a quote that is never closed are errors.
/// </remarks>
public sealed class DelimitedReader : IFieldSource, IDisposable
{
    /// <summary>The longest row, in bytes.</summary>
    public const int MaxRowBytes = 1 << 19;

    private const int BufferBytes = 1 << 18;
    private readonly FileFormat _format;
    private readonly FileStream _file;
    private readonly CsvReader _reader;
    private readonly byte[][] _missing;
    private readonly Dictionary<string, int> _columnIndex = [];
    private readonly HashSet<string> _ambiguous = [];

    /// <summary>Opens a file and reads its header, if the format has one.</summary>
    /// <exception cref="DataException">The file cannot be opened, is empty, is not what its name says, or has no usable header.</exception>
    public DelimitedReader(string path, FileFormat format)
    {
        Path = path;
        _format = format;
        CsvReaderOptions options = new()
        {
            Separator = SingleCharacter(format.Separator, "format.separator"),
            HasHeader = false,
            Mode = format.Quote is null ? CsvMode.NoEscape : CsvMode.Rfc4180,
            TrimWhitespace = format.Trim,
            TrackLineNumbers = true,
            MaxRecordSize = MaxRowBytes,
            BufferSize = BufferBytes,
            OnMalformedRecord = Reject,
        };
        if (format.Quote is not null)
            options = options with { Quote = SingleCharacter(format.Quote, "format.quote") };
        _missing = [.. format.Missing.Select(Encoding.UTF8.GetBytes)];
        _file = TextFile.Open(path);
        try
        {
            if (_file.Length == 0)
                throw new DataException("the file is empty", path);
            _reader = CsvReader.Create(TextFile.Decompress(_file, path), options);
            Columns = ReadColumns();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>The columns' names, from the header or the format.</summary>
    public IReadOnlyList<string> Columns { get; }

    /// <summary>The line that the current row starts at, from 1.</summary>
    public long Line => _reader.LineNumber;

    /// <summary>Rows read so far, the header not counted.</summary>
    public long Rows { get; private set; }

    /// <summary>Bytes of the file (compressed, if it is) taken so far.</summary>
    public long BytesRead => _file.Position;

    /// <summary>Bytes of the file.</summary>
    public long Length => _file.Length;

    /// <summary>The place of a column.</summary>
    /// <param name="column">Its name.</param>
    /// <param name="purpose">Who asks, for the message: "feature \"age\"".</param>
    /// <exception cref="DataException">The file has no such column, or two of that name.</exception>
    public int IndexOf(string column, string purpose)
    {
        if (_ambiguous.Contains(column))
            throw new DataException($"two columns have this name; {purpose} needs it to be unique", Path, _format.Header ? 1 : 0, column);
        if (TryIndexOf(column, out int index))
            return index;
        string help = NearestName.Suggestion(column, Columns);
        if (help.Length == 0)
            help = $"; it has {string.Join(", ", Columns.Take(20))}{(Columns.Count > 20 ? ", ..." : "")}";
        throw new DataException(
            $"{purpose} needs the column \"{column}\", which the file does not have{help}", Path, _format.Header ? 1 : 0);
    }

    /// <summary>The place of a column, if the file has it.</summary>
    public bool TryIndexOf(string column, out int index) => _columnIndex.TryGetValue(column, out index);

    /// <summary>Goes to the next row.</summary>
    /// <returns>False at the end of the file.</returns>
    /// <exception cref="DataException">The row is too long or has the wrong number of fields; the text is not UTF-8; the gzip data is
    /// broken.</exception>
    public bool Read()
    {
        if (!ReadRecord())
            return false;
        if (_reader.FieldCount != Columns.Count)
        {
            string origin = _format.Header ? "header" : "format";
            throw new DataException(
                $"the row has {Fields(_reader.FieldCount)}; the {origin} names {Fields(Columns.Count)}, separated by '{_format.Separator}'",
                Path,
                Line);
        }

        Rows++;
        return true;
    }

    /// <summary>A field of the current row: UTF-8, trimmed, unquoted.</summary>
    public ReadOnlySpan<byte> Field(int column) => _reader.GetSpan(column);

    /// <summary>Whether a text means "not known": it is empty or one of the format's missing values.</summary>
    public bool IsMissing(ReadOnlySpan<byte> text)
    {
        if (text.IsEmpty)
            return true;
        foreach (byte[] missing in _missing)
        {
            if (text.SequenceEqual(missing))
                return true;
        }

        return false;
    }

    /// <summary>The number in a field of the current row.</summary>
    /// <exception cref="DataException">It is not a finite number.</exception>
    public double Number(int column, string rule)
    {
        ReadOnlySpan<byte> text = Field(column);
        return Utf8Text.TryParseNumber(text, out double value)
            ? value
            : throw Error(column, $"{Utf8Text.Quote(text)} is not a finite number; {rule}");
    }

    /// <summary>An error about a field of the current row.</summary>
    public DataException Error(int column, string rule) => new(rule, Path, Line, Columns[column]);

    /// <summary>Closes the file.</summary>
    public void Dispose()
    {
        _reader?.Dispose();
        _file.Dispose();
    }

    private static string Fields(int count) => count == 1 ? "1 field" : $"{count} fields";

    private static char SingleCharacter(string text, string name) => text is [< '\x80' and not '\n' and not '\r' and var character]
        ? character
        : throw new DataException($"{name} is \"{text}\"; it must be one ASCII character that does not end a line");

    private string[] ReadColumns()
    {
        string[] columns = _format.Header ? ReadHeader() : [.. _format.Columns ?? []];
        if (columns.Length == 0)
            throw new DataException("format.columns must name the columns, since format.header is false");
        for (int i = 0; i < columns.Length; i++)
        {
            if (!_columnIndex.TryAdd(columns[i], i))
                _ambiguous.Add(columns[i]);
        }

        return columns;
    }

    private string[] ReadHeader()
    {
        if (!ReadRecord())
            throw new DataException("the file has no text; its first line must name the columns", Path);
        string[] columns = new string[_reader.FieldCount];
        bool numbersOnly = true;
        for (int i = 0; i < columns.Length; i++)
        {
            columns[i] = _reader.GetString(i);
            if (columns[i].Length == 0)
                throw new DataException($"column {i + 1} of the header has no name", Path, Line);
            numbersOnly &= Utf8Text.TryParseNumber(_reader.GetSpan(i), out _);
        }

        return numbersOnly
            ? throw new DataException(
                "the first line holds numbers only, so the header is missing; set format.header to false and name the columns in format.columns", Path, Line)
            : columns;
    }

    private bool ReadRecord()
    {
        try
        {
            if (!_reader.Read())
                return false;
        }
        catch (CsvFormatException error)
        {
            // Malformed quotes go to Reject, so this is the limit of the row's length.
            throw TooLong(error.LineNumber, error);
        }
        catch (InvalidDataException error)
        {
            throw new DataException($"the gzip data is broken or cut off behind line {Line}: {error.Message}", Path, 0, null, error);
        }
        catch (IOException error)
        {
            throw new DataException($"reading failed behind line {Line}: {error.Message}", Path, 0, null, error);
        }

        if (_reader.RawRecord.Length > MaxRowBytes)
            throw TooLong(Line, null);
        if (!Utf8.IsValid(_reader.RawRecord))
            throw InvalidUtf8();
        return true;
    }

    private DataException TooLong(long line, Exception? cause) => new(
        $"the row is longer than {MaxRowBytes:N0} bytes, the most that a row may have; is a quote left open, or is this not a text file?", Path, line, null, cause);

    private void Reject(CsvMalformedRecord record)
    {
        string? rule = record.Reason switch
        {
            CsvMalformedReason.TextAfterClosingQuote => "a field has text behind its closing quote; a quote inside a quoted field must be doubled",
            CsvMalformedReason.UnterminatedQuote => "a quote is opened and never closed",
            _ => null,
        };
        if (rule is not null)
            throw new DataException(rule, Path, record.LineNumber);
    }

    private DataException InvalidUtf8()
    {
        for (int i = 0; i < _reader.FieldCount; i++)
        {
            ReadOnlySpan<byte> field = _reader.GetSpan(i);
            if (Utf8.IsValid(field))
                continue;
            int at = 0;
            while (Rune.DecodeFromUtf8(field[at..], out _, out int consumed) == OperationStatus.Done)
                at += consumed;
            string? column = i < (Columns?.Count ?? 0) ? Columns![i] : null;
            return new DataException(
                $"field {i + 1} is not valid UTF-8: byte 0x{field[at]:X2} at position {at + 1} of {Utf8Text.Quote(field)}; save the file as UTF-8",
                Path,
                Line,
                column);
        }

        return new DataException("the line is not valid UTF-8; save the file as UTF-8", Path, Line);
    }
}
