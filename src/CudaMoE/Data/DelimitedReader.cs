using System.Buffers;
using System.Text;
using System.Text.Unicode;
using CudaMoE.Description;

namespace CudaMoE.Data;

/// <summary>
/// Reads a delimited text file (CSV, TSV; plain or gzip; UTF-8) row by row, in constant memory. Fields are spans of UTF-8 bytes into a
/// reused buffer, trimmed and unquoted, valid until the next <see cref="Read"/>; a row costs no allocation. LF and CRLF end lines, the last
/// line may lack its end, a byte order mark and blank lines are passed over (in files of more than one column).
/// </summary>
/// <remarks>
/// The reader is our own because libraries hand out strings: CsvHelper 34 takes 20 times as long over the census file, and building a
/// cache reads each file up to three times. The tests use CsvHelper as the oracle. Not thread-safe.
/// </remarks>
public sealed class DelimitedReader : IDisposable
{
    /// <summary>The longest row, in bytes.</summary>
    public const int MaxRowBytes = 1 << 19;

    private readonly FileFormat _format;
    private readonly FileStream _file;
    private readonly Stream _text;
    private readonly byte _separator;
    private readonly int _quote;
    private readonly bool _trim;
    private readonly byte[][] _missing;
    private readonly Dictionary<string, int> _columnIndex = [];
    private readonly HashSet<string> _ambiguous = [];
    private byte[] _buffer = new byte[1 << 18];
    private int _position;
    private int _filled;
    private bool _atEnd;
    private bool _disposed;
    private long _nextLine = 1;
    private int[] _starts = new int[64];
    private int[] _lengths = new int[64];
    private int _fields;

    /// <summary>Opens a file and reads its header, if the format has one.</summary>
    /// <exception cref="DataException">The file cannot be opened, is empty, is not what its name says, or has no usable header.</exception>
    public DelimitedReader(string path, FileFormat format)
    {
        Path = path;
        _format = format;
        _separator = SingleByte(format.Separator, "format.separator");
        _quote = format.Quote is null ? -1 : SingleByte(format.Quote, "format.quote");
        _trim = format.Trim;
        _missing = [.. format.Missing.Select(Encoding.UTF8.GetBytes)];
        _file = TextFile.Open(path);
        try
        {
            _text = TextFile.Decompress(_file, path);
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
    public long Line { get; private set; }

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
        throw new DataException(
            $"{purpose} needs the column \"{column}\", which the file does not have; {Utf8Text.Suggest(column, Columns)}",
            Path,
            _format.Header ? 1 : 0);
    }

    /// <summary>The place of a column, if the file has it.</summary>
    public bool TryIndexOf(string column, out int index) => _columnIndex.TryGetValue(column, out index);

    /// <summary>Goes to the next row.</summary>
    /// <returns>False at the end of the file.</returns>
    /// <exception cref="DataException">The row is too long or has the wrong number of fields; the text is not UTF-8; the gzip data is
    /// broken.</exception>
    public bool Read()
    {
        while (ReadRecord())
        {
            if (_fields == 1 && _lengths[0] == 0 && Columns.Count > 1)
                continue;
            if (_fields != Columns.Count)
            {
                string origin = _format.Header ? "header" : "format";
                throw new DataException(
                    $"the row has {Fields(_fields)}; the {origin} names {Fields(Columns.Count)}, separated by '{_format.Separator}'",
                    Path,
                    Line);
            }

            Rows++;
            return true;
        }

        return false;
    }

    /// <summary>A field of the current row: UTF-8, trimmed, unquoted.</summary>
    public ReadOnlySpan<byte> Field(int column) => _buffer.AsSpan(_starts[column], _lengths[column]);

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
        return Utf8Text.TryParseNumber(text, out double value) ? value : throw Error(column, $"{Utf8Text.Quote(text)} is not a finite number; {rule}");
    }

    /// <summary>An error about a field of the current row.</summary>
    public DataException Error(int column, string rule) => new(rule, Path, Line, Columns[column]);

    /// <summary>Closes the file.</summary>
    public void Dispose()
    {
        _disposed = true;
        _text?.Dispose();
        _file.Dispose();
    }

    private static string Fields(int count) => count == 1 ? "1 field" : $"{count} fields";

    private static byte SingleByte(string text, string name)
    {
        if (text.Length != 1 || text[0] > 127 || text[0] is '\n' or '\r')
            throw new DataException($"{name} is \"{text}\"; it must be one ASCII character that is not a line end");
        return (byte)text[0];
    }

    private string[] ReadColumns()
    {
        Fill(0);
        if (_filled == 0)
            throw new DataException("the file is empty", Path);
        ReadOnlySpan<byte> head = _buffer.AsSpan(0, _filled);
        if (head.StartsWith((ReadOnlySpan<byte>)[0xFF, 0xFE]) || head.StartsWith((ReadOnlySpan<byte>)[0xFE, 0xFF]))
            throw new DataException("the file is UTF-16; it must be UTF-8", Path);
        if (head.StartsWith((ReadOnlySpan<byte>)[0xEF, 0xBB, 0xBF]))
            _position = 3;

        string[] columns;
        if (_format.Header)
        {
            if (!ReadRecord() || (_fields == 1 && _lengths[0] == 0))
                throw new DataException("the first line is empty; it must be a header that names the columns (or set format.header to false)", Path, 1);
            columns = new string[_fields];
            for (int i = 0; i < _fields; i++)
            {
                columns[i] = Encoding.UTF8.GetString(Field(i));
                if (columns[i].Length == 0)
                    throw new DataException($"column {i + 1} of the header has no name", Path, 1);
            }

            if (columns.All(name => double.TryParse(name, System.Globalization.CultureInfo.InvariantCulture, out _)))
            {
                throw new DataException(
                    "the first line holds numbers only, so the header that format.header promises is missing; "
                    + "set format.header to false and name the columns in format.columns",
                    Path,
                    1);
            }
        }
        else
        {
            columns = _format.Columns is { Count: > 0 } given
                ? [.. given]
                : throw new DataException("format.columns must name the columns, since format.header is false");
        }

        for (int i = 0; i < columns.Length; i++)
        {
            if (!_columnIndex.TryAdd(columns[i], i))
                _ambiguous.Add(columns[i]);
        }

        return columns;
    }

    // Finds the fields of the next record. A record that reaches beyond the buffer is scanned again after more is read; nothing is
    // changed in place before it is whole.
    private bool ReadRecord()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        Line = _nextLine;
        int end;
        int newlines;
        while (!TryScan(out end, out newlines))
        {
            if (_filled - _position > MaxRowBytes)
                throw TooLong();
            if (_atEnd)
                return false;
            Fill(_position);
        }

        if (end - _position > MaxRowBytes)
            throw TooLong();
        int start = _position;
        _position = end;
        _nextLine += newlines;
        CheckUtf8(start, end);
        for (int i = 0; i < _fields; i++)
        {
            if (_lengths[i] < 0)
                _lengths[i] = Unescape(_starts[i], ~_lengths[i]);
        }

        return true;
    }

    // Fields are noted as start and length; a quoted field that holds doubled quotes has the complement of its length.
    private bool TryScan(out int end, out int newlines)
    {
        ReadOnlySpan<byte> data = _buffer.AsSpan(0, _filled);
        int position = _position;
        newlines = 0;
        _fields = 0;
        end = position;
        if (position == data.Length)
            return false;
        while (true)
        {
            int start = position;
            if (_trim)
            {
                while (start < data.Length && IsBlank(data[start]))
                    start++;
            }

            int length;
            if (start < data.Length && data[start] == _quote)
            {
                if (!ScanQuoted(data, start + 1, ref newlines, out length, out position))
                    return false;
                start++;
            }
            else
            {
                int offset = data[start..].IndexOfAny(_separator, (byte)'\n');
                if (offset < 0 && !_atEnd)
                    return false;
                position = offset < 0 ? data.Length : start + offset;
                length = position - start;
                if (length > 0 && data[position - 1] == '\r' && (position == data.Length || data[position] == '\n'))
                    length--;
                if (_trim)
                {
                    while (length > 0 && IsBlank(data[start + length - 1]))
                        length--;
                }
            }

            if (_fields == _starts.Length)
            {
                Array.Resize(ref _starts, _fields * 2);
                Array.Resize(ref _lengths, _fields * 2);
            }

            _starts[_fields] = start;
            _lengths[_fields++] = length;
            if (position == data.Length)
            {
                end = position;
                return true;
            }

            if (data[position++] == '\n')
            {
                newlines++;
                end = position;
                return true;
            }
        }
    }

    // From behind the opening quote; position goes to the separator, the LF or the end of the file.
    private bool ScanQuoted(ReadOnlySpan<byte> data, int start, ref int newlines, out int length, out int position)
    {
        length = 0;
        position = start;
        bool escaped = false;
        int close = start;
        while (true)
        {
            int offset = data[close..].IndexOf((byte)_quote);
            if (offset < 0)
            {
                if (_atEnd)
                    throw new DataException($"the quote that opens field {_fields + 1} is never closed", Path, _nextLine);
                return false;
            }

            close += offset;
            if (close + 1 == data.Length && !_atEnd)
                return false;
            if (close + 1 == data.Length || data[close + 1] != _quote)
                break;
            escaped = true;
            close += 2;
        }

        length = escaped ? ~(close - start) : close - start;
        newlines += data[start..close].Count((byte)'\n');
        position = close + 1;
        while (_trim && position < data.Length && IsBlank(data[position]))
            position++;
        if (position < data.Length && data[position] == '\r')
            position++;
        if (position == data.Length)
            return _atEnd;
        if (data[position] != _separator && data[position] != '\n')
            throw new DataException($"field {_fields + 1} has text behind its closing quote; a quote inside must be doubled", Path, _nextLine);
        return true;
    }

    private int Unescape(int start, int length)
    {
        Span<byte> text = _buffer.AsSpan(start, length);
        int kept = 0;
        for (int i = 0; i < text.Length; i++)
        {
            text[kept++] = text[i];
            if (text[i] == _quote)
                i++;
        }

        return kept;
    }

    private bool IsBlank(byte value) => value == ' ' || (value == '\t' && _separator != '\t');

    private void CheckUtf8(int start, int end)
    {
        ReadOnlySpan<byte> record = _buffer.AsSpan(start, end - start);
        if (Utf8.IsValid(record))
            return;
        for (int i = 0; i < _fields; i++)
        {
            ReadOnlySpan<byte> field = _buffer.AsSpan(_starts[i], _lengths[i] < 0 ? ~_lengths[i] : _lengths[i]);
            if (Utf8.IsValid(field))
                continue;
            int at = 0;
            while (Rune.DecodeFromUtf8(field[at..], out _, out int consumed) == OperationStatus.Done)
                at += consumed;
            string? column = Columns is null || i >= Columns.Count ? null : Columns[i];
            throw new DataException(
                $"field {i + 1} is not valid UTF-8: byte 0x{field[at]:X2} at position {at + 1} of {Utf8Text.Quote(field)}; save the file as UTF-8",
                Path,
                Line,
                column);
        }

        throw new DataException("the line is not valid UTF-8; save the file as UTF-8", Path, Line);
    }

    private DataException TooLong() => new(
        $"the row is longer than {MaxRowBytes:N0} bytes, the most that a row may have; is a quote left open, or is this not a text file?",
        Path,
        _nextLine);

    // Moves what is not yet used to the front, doubles the buffer if it is full, and reads on.
    private void Fill(int from)
    {
        int kept = _filled - from;
        if (from == 0 && _filled == _buffer.Length)
            Array.Resize(ref _buffer, _buffer.Length * 2);
        else
            Buffer.BlockCopy(_buffer, from, _buffer, 0, kept);
        _position -= from;
        _filled = kept;
        try
        {
            while (_filled < _buffer.Length && !_atEnd)
            {
                int read = _text.Read(_buffer, _filled, _buffer.Length - _filled);
                _atEnd = read == 0;
                _filled += read;
            }
        }
        catch (InvalidDataException error)
        {
            throw new DataException($"the gzip data is broken or cut off: {error.Message}", Path, _nextLine, null, error);
        }
        catch (IOException error)
        {
            throw new DataException($"reading failed: {error.Message}", Path, _nextLine, null, error);
        }
    }
}
