using System.IO.Compression;
using System.Text;

namespace CudaMoE.Samples;

/// <summary>A text file of fields with a header line, plain or .gz; fields may be in double quotes.</summary>
internal sealed record Table(string[] Header, List<string[]> Rows)
{
    public static Table Read(string path, char separator)
    {
        using FileStream file = File.OpenRead(path);
        using StreamReader reader = new(path.EndsWith(".gz", StringComparison.Ordinal) ? new GZipStream(file, CompressionMode.Decompress) : file);
        string[] header = Split(reader.ReadLine() ?? throw new InvalidDataException($"{path} is empty"), separator);
        List<string[]> rows = [];
        while (reader.ReadLine() is { } line)
        {
            string[] fields = Split(line, separator);
            rows.Add(fields.Length == header.Length ? fields : throw new InvalidDataException($"{path}, line {rows.Count + 2}: {fields.Length} fields instead of {header.Length}"));
        }

        return new(header, rows);
    }

    public int Column(string name) => Array.IndexOf(Header, name) is var index and >= 0 ? index : throw new InvalidDataException($"no column \"{name}\"");

    private static string[] Split(string line, char separator)
    {
        List<string> fields = [];
        StringBuilder field = new();
        bool quoted = false;
        foreach (char c in line)
        {
            if (c == '"')
                quoted = !quoted;
            else if (c == separator && !quoted)
                Next();
            else
                field.Append(c);
        }

        Next();
        return [.. fields];

        void Next()
        {
            fields.Add(field.ToString());
            field.Clear();
        }
    }
}
