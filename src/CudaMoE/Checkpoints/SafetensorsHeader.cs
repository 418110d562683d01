using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Unicode;

namespace CudaMoE.Checkpoints;

/// <summary>
/// The header of a safetensors file: 8 bytes little-endian length N, N bytes of JSON that start with '{' and may be padded with
/// spaces, then the data part. The JSON maps each tensor's name to its dtype, shape and data_offsets, and "__metadata__" to a map of
/// strings. Reading enforces every rule of the format: no duplicate keys, shape times element size = length, and offsets that cover
/// the data part with neither hole nor overlap.
/// </summary>
public sealed class SafetensorsHeader
{
    /// <summary>The longest header that the format allows, in bytes.</summary>
    public const long MaxHeaderBytes = 100_000_000;

    /// <summary>The key of the file's own strings.</summary>
    internal const string MetadataKey = "__metadata__";

    /// <summary>Bytes of the length field.</summary>
    internal const int LengthBytes = 8;

    private readonly Dictionary<string, TensorEntry> _byName;

    private SafetensorsHeader(string file, IReadOnlyList<TensorEntry> tensors, IReadOnlyDictionary<string, string> metadata, long dataStart)
    {
        File = file;
        Tensors = tensors;
        Metadata = metadata;
        DataStart = dataStart;
        _byName = tensors.ToDictionary(tensor => tensor.Name, StringComparer.Ordinal);
    }

    /// <summary>The file.</summary>
    public string File { get; }

    /// <summary>The tensors in the order of their data.</summary>
    public IReadOnlyList<TensorEntry> Tensors { get; }

    /// <summary>The strings under "__metadata__".</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Where the data part begins in the file.</summary>
    public long DataStart { get; }

    /// <summary>The tensor of that name.</summary>
    /// <exception cref="CheckpointFormatException">There is none.</exception>
    public TensorEntry this[string name] => _byName.TryGetValue(name, out TensorEntry? entry)
        ? entry
        : throw new CheckpointFormatException(File, $"has no tensor \"{name}\"");

    /// <summary>Looks for the tensor of that name.</summary>
    public bool TryGet(string name, out TensorEntry? entry) => _byName.TryGetValue(name, out entry);

    /// <summary>Reads and checks the header only; the data is not touched.</summary>
    /// <exception cref="CheckpointFormatException">A rule of the format is broken.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static SafetensorsHeader Read(string path)
    {
        using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 0);
        return Read(stream, path);
    }

    /// <summary>Reads and checks the header of an open file.</summary>
    internal static SafetensorsHeader Read(FileStream stream, string path)
    {
        long fileLength = stream.Length;
        if (fileLength < LengthBytes)
            throw new CheckpointFormatException(path, $"has {fileLength} bytes; a safetensors file begins with {LengthBytes} bytes of header length");
        Span<byte> lengthField = stackalloc byte[LengthBytes];
        stream.ReadExactly(lengthField);
        ulong headerLength = BinaryPrimitives.ReadUInt64LittleEndian(lengthField);
        if (headerLength > MaxHeaderBytes)
            throw new CheckpointFormatException(path, $"says that its header has {headerLength} bytes; at most {MaxHeaderBytes} are allowed");
        if ((long)headerLength > fileLength - LengthBytes)
        {
            throw new CheckpointFormatException(
                path, $"says that its header has {headerLength} bytes but only {fileLength - LengthBytes} follow; the file is truncated");
        }

        byte[] header = new byte[headerLength];
        stream.ReadExactly(header);
        return Parse(header, path, fileLength - LengthBytes - (long)headerLength);
    }

    /// <summary>Parses and checks the JSON of a header whose data part has <paramref name="dataLength"/> bytes.</summary>
    internal static SafetensorsHeader Parse(ReadOnlySpan<byte> json, string path, long dataLength)
    {
        if (json.IsEmpty || json[0] != (byte)'{')
            throw new CheckpointFormatException(path, "has a header that does not begin with '{'");
        if (!Utf8.IsValid(json))
            throw new CheckpointFormatException(path, "has a header that is not valid UTF-8");
        Parser parser = new(path, dataLength);
        try
        {
            parser.Run(json);
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or FormatException)
        {
            throw new CheckpointFormatException(path, $"has a header that is not valid JSON: {error.Message}", error);
        }

        TensorEntry[] tensors = [.. parser.Tensors.OrderBy(tensor => tensor.Offset).ThenBy(tensor => tensor.ByteLength)];
        CheckCoverage(path, tensors, dataLength);
        return new(path, tensors, parser.Metadata, LengthBytes + json.Length);
    }

    /// <summary>The bytes of a header, length field included, padded with spaces to a multiple of <paramref name="alignment"/>.</summary>
    internal static byte[] Format(IReadOnlyList<TensorEntry> tensors, IReadOnlyDictionary<string, string>? metadata, int alignment)
    {
        using MemoryStream stream = new();
        stream.Write(stackalloc byte[LengthBytes]);
        using (Utf8JsonWriter writer = new(stream, new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            writer.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                writer.WriteStartObject(MetadataKey);
                foreach ((string key, string value) in metadata.OrderBy(pair => pair.Key, StringComparer.Ordinal))
                    writer.WriteString(key, value);
                writer.WriteEndObject();
            }

            foreach (TensorEntry tensor in tensors)
            {
                writer.WriteStartObject(tensor.Name);
                writer.WriteString("dtype", tensor.Type.Name());
                writer.WriteStartArray("shape");
                foreach (long extent in tensor.Shape)
                    writer.WriteNumberValue(extent);
                writer.WriteEndArray();
                writer.WriteStartArray("data_offsets");
                writer.WriteNumberValue(tensor.Offset);
                writer.WriteNumberValue(tensor.Offset + tensor.ByteLength);
                writer.WriteEndArray();
                writer.WriteEndObject();
            }

            writer.WriteEndObject();
        }

        while (stream.Length % alignment != 0)
            stream.WriteByte((byte)' ');
        byte[] bytes = stream.ToArray();
        BinaryPrimitives.WriteInt64LittleEndian(bytes, bytes.Length - LengthBytes);
        return bytes;
    }

    private static void CheckCoverage(string path, TensorEntry[] tensors, long dataLength)
    {
        long end = 0;
        TensorEntry? previous = null;
        foreach (TensorEntry tensor in tensors)
        {
            if (tensor.Offset != end)
            {
                string what = tensor.Offset > end ? "leaves a hole after" : "overlaps";
                string neighbour = previous is null ? "the start of the data" : $"tensor \"{previous.Name}\"";
                throw new CheckpointFormatException(
                    path, $"tensor \"{tensor.Name}\" begins at byte {tensor.Offset} and {what} {neighbour}, which ends at {end}");
            }

            end += tensor.ByteLength;
            previous = tensor;
        }

        if (end != dataLength)
        {
            string what = end > dataLength ? "the file is truncated" : "every byte must belong to a tensor";
            throw new CheckpointFormatException(path, $"has {dataLength} bytes of data but its tensors take {end}; {what}");
        }
    }

    /// <summary>Walks the header's tokens.</summary>
    private sealed class Parser(string path, long dataLength)
    {
        private readonly HashSet<string> _names = new(StringComparer.Ordinal);
        private bool _metadataSeen;

        public List<TensorEntry> Tensors { get; } = [];

        public Dictionary<string, string> Metadata { get; } = new(StringComparer.Ordinal);

        public void Run(ReadOnlySpan<byte> json)
        {
            // Depth 3: the file's object, a tensor's object, its arrays. The reader is not told that this is the final block's end, so that what
            // follows the closing brace can be held to the format's own rule (spaces only).
            Utf8JsonReader reader = new(json, isFinalBlock: false, new JsonReaderState(new JsonReaderOptions { MaxDepth = 4 }));
            Read(ref reader);
            while (Read(ref reader) != JsonTokenType.EndObject)
            {
                string name = reader.GetString()!;
                if (name == MetadataKey)
                {
                    ReadMetadata(ref reader);
                    continue;
                }

                if (!_names.Add(name))
                    throw new CheckpointFormatException(path, $"names tensor \"{name}\" twice");
                Tensors.Add(ReadTensor(ref reader, name));
            }

            int trailing = json[(int)reader.BytesConsumed..].IndexOfAnyExcept((byte)' ');
            if (trailing >= 0)
                throw new CheckpointFormatException(path, $"has something other than spaces after its header's JSON, at byte {reader.BytesConsumed + trailing}");
        }

        private JsonTokenType Read(ref Utf8JsonReader reader)
        {
            if (!reader.Read())
                throw new CheckpointFormatException(path, "has a header whose JSON ends too early");
            return reader.TokenType;
        }

        private void ReadMetadata(ref Utf8JsonReader reader)
        {
            if (_metadataSeen)
                throw new CheckpointFormatException(path, $"names {MetadataKey} twice");
            _metadataSeen = true;
            if (Read(ref reader) != JsonTokenType.StartObject)
                throw new CheckpointFormatException(path, $"has a {MetadataKey} that is not an object of strings");
            while (Read(ref reader) != JsonTokenType.EndObject)
            {
                string key = reader.GetString()!;
                if (Read(ref reader) != JsonTokenType.String)
                    throw new CheckpointFormatException(path, $"{MetadataKey} key \"{key}\" is a {reader.TokenType}; it must be a string");
                if (!Metadata.TryAdd(key, reader.GetString()!))
                    throw new CheckpointFormatException(path, $"names {MetadataKey} key \"{key}\" twice");
            }
        }

        private TensorEntry ReadTensor(ref Utf8JsonReader reader, string name)
        {
            if (Read(ref reader) != JsonTokenType.StartObject)
                throw Bad(name, "is not an object with dtype, shape and data_offsets");
            TensorDataType? type = null;
            List<long>? shape = null;
            List<long>? offsets = null;
            while (Read(ref reader) != JsonTokenType.EndObject)
            {
                string key = reader.GetString()!;
                bool seen = key switch { "dtype" => type is not null, "shape" => shape is not null, "data_offsets" => offsets is not null, _ => false };
                if (seen)
                    throw Bad(name, $"has {key} twice");
                Read(ref reader);
                switch (key)
                {
                    case "dtype":
                        type = ReadType(ref reader, name);
                        break;
                    case "shape":
                        shape = ReadIntegers(ref reader, name, key);
                        break;
                    case "data_offsets":
                        offsets = ReadIntegers(ref reader, name, key);
                        break;
                    default:
                        throw Bad(name, $"has the unknown key \"{key}\"; a tensor has dtype, shape and data_offsets");
                }
            }

            if (type is null || shape is null || offsets is null)
                throw Bad(name, $"has no {(type is null ? "dtype" : shape is null ? "shape" : "data_offsets")}");
            return Check(name, type.Value, shape, offsets);
        }

        private TensorEntry Check(string name, TensorDataType type, List<long> shape, List<long> offsets)
        {
            if (offsets.Count != 2)
                throw Bad(name, $"has {offsets.Count} data_offsets; it must have 2, begin and end");
            (long begin, long end) = (offsets[0], offsets[1]);
            if (begin > end || end > dataLength)
                throw Bad(name, $"has data_offsets [{begin}, {end}]; they must ascend and end within the {dataLength} bytes of data");
            string shapeText = $"[{string.Join(", ", shape)}]";
            if (!TensorEntry.TryByteLength(type, shape, out long bytes))
                throw Bad(name, $"has shape {shapeText}, whose size does not fit 63 bits");
            if (bytes != end - begin)
                throw Bad(name, $"has {end - begin} bytes of data; {type.Name()} {shapeText} takes {bytes}");
            return new(name, type, shape.AsReadOnly(), begin, bytes);
        }

        private TensorDataType ReadType(ref Utf8JsonReader reader, string name)
        {
            if (reader.TokenType != JsonTokenType.String)
                throw Bad(name, $"has a dtype that is a {reader.TokenType}; it must be a string");
            string text = reader.GetString()!;
            return TensorDataTypes.TryParse(text, out TensorDataType type)
                ? type
                : throw Bad(name, $"has dtype \"{text}\"; known are {TensorDataTypes.AllNames}");
        }

        private List<long> ReadIntegers(ref Utf8JsonReader reader, string name, string key)
        {
            if (reader.TokenType != JsonTokenType.StartArray)
                throw Bad(name, $"has a {key} that is not an array");
            List<long> values = [];
            while (Read(ref reader) != JsonTokenType.EndArray)
            {
                if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out long value) || value < 0)
                {
                    string text = Encoding.UTF8.GetString(reader.ValueSpan);
                    throw Bad(name, string.Create(CultureInfo.InvariantCulture, $"has {text} in its {key}; it must hold integers from 0 to 2^63 - 1"));
                }

                values.Add(value);
            }

            return values;
        }

        private CheckpointFormatException Bad(string name, string what) => new(path, $"tensor \"{name}\" {what}");
    }
}
