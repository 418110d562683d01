using System.Globalization;
using System.IO.Compression;
using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Encoders;

/// <summary>What <see cref="VectorColumn"/> wrote.</summary>
/// <param name="Rows">Rows of the table.</param>
/// <param name="Missing">Rows without a text, whose vector is missing.</param>
/// <param name="Encoded">Texts that went through the encoder: each different one once, as long as its vector is held.</param>
public sealed record VectorColumnResult(long Rows, long Missing, long Encoded);

/// <summary>
/// Copies a table and adds a column with the encoder's vector of each row's text: a feature of the type vector for any model. Rows without a text have an
/// empty field, which such a feature reads as zeros.
/// </summary>
public static class VectorColumn
{
    // Vectors that are held, so that a text that comes again is not computed again: 256 MiB.
    private const long HeldNumbers = 1L << 26;
    private const int RowsAtOnce = 4096;

    /// <summary>Writes the table under a temporary name and renames it: a kill leaves the old file or the whole new one.</summary>
    /// <param name="input">The table, plain or gzip.</param>
    /// <param name="format">How it is written; the copy is written alike, with a header line if the table has one.</param>
    /// <param name="textColumns">The columns whose texts are joined.</param>
    /// <param name="encoder">The encoder, which must give one state a text.</param>
    /// <param name="output">The copy; gzip when its name ends in .gz.</param>
    /// <param name="column">Name of the new column.</param>
    /// <param name="valueSeparator">Character between the numbers of a vector.</param>
    /// <param name="progress">Told how many rows are written; may be null.</param>
    /// <param name="cancellation">Ends it; the old file stays.</param>
    /// <exception cref="DataException">The table cannot be read, lacks a text column, or has the new one already.</exception>
    /// <exception cref="CudaMoEException">The encoder gives several states a text, or the separators do not fit.</exception>
    public static VectorColumnResult Append(
        string input,
        FileFormat format,
        IReadOnlyList<string> textColumns,
        TextEncoder encoder,
        string output,
        string column,
        char valueSeparator = '|',
        Action<long>? progress = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(format);
        ArgumentNullException.ThrowIfNull(encoder);
        if (encoder.LayerNumbers.Count != 1)
            throw new CudaMoEException($"the encoder gives {encoder.LayerNumbers.Count} states a text; a column takes one: choose a layer, or the output alone");
        if (!char.IsAscii(valueSeparator) || char.IsAsciiLetterOrDigit(valueSeparator) || valueSeparator is '.' or '-' or '+' or '\n' or '\r' || format.Separator == valueSeparator.ToString() || format.Quote == valueSeparator.ToString())
            throw new CudaMoEException($"the separator of a vector's numbers is '{valueSeparator}'; it must be an ASCII character that is no part of a number, and not that of fields or quotes");
        if (Path.GetFullPath(input) == Path.GetFullPath(output))
            throw new CudaMoEException($"{output} is the table itself; name another file for the copy");
        using DelimitedReader reader = new(input, format);
        if (reader.TryIndexOf(column, out _))
            throw new DataException($"the table has a column \"{column}\" already; name another one for the vectors", input);
        int[] places = [.. textColumns.Select(name => reader.IndexOf(name, "the text"))];
        VectorColumnResult result = new(0, 0, 0);
        AtomicFile.Write(output, file =>
        {
            using GZipStream? packed = output.EndsWith(".gz", StringComparison.OrdinalIgnoreCase) ? new(file, CompressionLevel.Fastest, leaveOpen: true) : null;
            using StreamWriter writer = new(packed ?? file, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false), 1 << 16, leaveOpen: true) { NewLine = "\n" };
            result = new Copy(reader, format, places, encoder, writer, valueSeparator).Run(column, progress, cancellation);
        });
        return result;
    }

    /// <summary>One copy under way.</summary>
    private sealed class Copy(DelimitedReader reader, FileFormat format, int[] places, TextEncoder encoder, StreamWriter writer, char valueSeparator)
    {
        private readonly Dictionary<string, float[]> _vectors = new(StringComparer.Ordinal);
        private readonly StringBuilder _buffer = new();
        private readonly List<string?> _texts = [];
        private readonly List<string> _lines = [];
        private long _rows;
        private long _missing;
        private long _encoded;

        public VectorColumnResult Run(string column, Action<long>? progress, CancellationToken cancellation)
        {
            if (format.Header)
            {
                _buffer.Clear();
                for (int i = 0; i < reader.Columns.Count; i++)
                    Field(reader.Columns[i], first: i == 0);
                Field(column, first: false);
                writer.WriteLine(_buffer.ToString());
            }

            bool more = true;
            while (more)
            {
                _texts.Clear();
                _lines.Clear();
                while (_lines.Count < RowsAtOnce && (more = reader.Read()))
                {
                    _texts.Add(JoinedText.Read(reader, places, _buffer));
                    _buffer.Clear();
                    for (int i = 0; i < reader.Columns.Count; i++)
                        Field(Encoding.UTF8.GetString(reader.Field(i)), first: i == 0);
                    _lines.Add(_buffer.ToString());
                }

                Encode(cancellation);
                Write();
                progress?.Invoke(_rows);
            }

            return new(_rows, _missing, _encoded);
        }

        /// <summary>Encodes the texts of the rows that are not held yet.</summary>
        private void Encode(CancellationToken cancellation)
        {
            string[] fresh = [.. _texts.OfType<string>().Where(text => !_vectors.ContainsKey(text)).Distinct(StringComparer.Ordinal)];
            if (((long)_vectors.Count + fresh.Length) * encoder.Width > HeldNumbers)
            {
                _vectors.Clear();
                fresh = [.. _texts.OfType<string>().Distinct(StringComparer.Ordinal)];
            }

            float[] states = new float[checked(fresh.Length * encoder.Width)];
            encoder.Encode(fresh, states, null, cancellation);
            for (int i = 0; i < fresh.Length; i++)
                _vectors.Add(fresh[i], states.AsSpan(i * encoder.Width, encoder.Width).ToArray());
            _encoded += fresh.Length;
        }

        private void Write()
        {
            for (int i = 0; i < _lines.Count; i++)
            {
                writer.Write(_lines[i]);
                writer.Write(format.Separator);
                _rows++;
                if (_texts[i] is { } text)
                    Write(_vectors[text]);
                else
                    _missing++;
                writer.WriteLine();
            }
        }

        private void Write(float[] vector)
        {
            Span<char> number = stackalloc char[32];
            for (int j = 0; j < vector.Length; j++)
            {
                if (j > 0)
                    writer.Write(valueSeparator);
                vector[j].TryFormat(number, out int length, default, CultureInfo.InvariantCulture);
                writer.Write(number[..length]);
            }
        }

        /// <summary>Adds a field to the line, in quotes where it would read otherwise.</summary>
        private void Field(string text, bool first)
        {
            if (!first)
                _buffer.Append(format.Separator);
            bool special = text.AsSpan().IndexOfAny('\n', '\r') >= 0 || text.Contains(format.Separator, StringComparison.Ordinal) || (text.Length > 0 && (char.IsWhiteSpace(text[0]) || char.IsWhiteSpace(text[^1])));
            if (format.Quote is { } quote && (special || text.Contains(quote, StringComparison.Ordinal)))
                _buffer.Append(quote).Append(text.Replace(quote, quote + quote, StringComparison.Ordinal)).Append(quote);
            else
                _buffer.Append(text);
        }
    }
}
