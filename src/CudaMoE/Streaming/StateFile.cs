using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using CudaMoE.Checkpoints;

namespace CudaMoE.Streaming;

/// <summary>Element types of a file of states.</summary>
public enum StateType
{
    /// <summary>32-bit float.</summary>
    F32,

    /// <summary>IEEE half: what encoders' states are usually kept in.</summary>
    F16,

    /// <summary>bfloat16.</summary>
    Bf16,
}

/// <summary>
/// The states of one modality in a memory-mapped safetensors file: tensor "states" [items, layers, width] of f32, f16 or bf16, the items' names in "names"
/// (UTF-8 bytes, one after the other) with "name_ends" [items] (i64), and, in files that this class wrote, "sha256" over all of these.
/// </summary>
/// <remarks>
/// The header is checked by the rules of the format, and the hash, where there is one, when the file is opened, which reads it once; a file that was cut
/// off or altered
/// is refused. Other programs may write such files without "sha256". Safe for concurrent reads until it is disposed.
/// </remarks>
public sealed class StateFile : IItemStates, IDisposable
{
    private const string States = "states";
    private const string Names = ItemNames.Names;
    private const string NameEnds = ItemNames.Ends;

    // The writer puts bytes last, by name: the hash comes behind all that it covers.
    private const string Hash = "sha256";
    private const int HashBytes = 32;
    private readonly SafetensorsReader _reader;
    private readonly TensorEntry _entry;
    private readonly Dictionary<string, int> _places = new(StringComparer.Ordinal);

    private StateFile(SafetensorsReader reader, TensorEntry entry)
    {
        _reader = reader;
        _entry = entry;
        Layers = (int)entry.Shape[1];
        Width = (int)entry.Shape[2];
    }

    /// <summary>Items of the file.</summary>
    public int Count => _places.Count;

    /// <inheritdoc/>
    public int Layers { get; }

    /// <inheritdoc/>
    public int Width { get; }

    /// <summary>What the writer noted about the states, such as the encoder that made them.</summary>
    public IReadOnlyDictionary<string, string> Metadata => _reader.Header.Metadata;

    /// <summary>Opens and checks a file.</summary>
    /// <exception cref="CheckpointFormatException">It is not such a file, was cut off or altered; the message says what is wrong.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static StateFile Open(string path)
    {
        SafetensorsReader reader = SafetensorsReader.Open(path);
        try
        {
            TensorEntry entry = reader.Header[States];
            if (entry.Shape.Count != 3 || entry.Shape.Any(extent => extent is < 1 or > int.MaxValue) || !IsState(entry.Type))
            {
                throw new CheckpointFormatException(
                    path, $"tensor \"{States}\" is {entry.Type} [{string.Join(", ", entry.Shape)}]; it must be f32, f16 or bf16 [items, layers, width], none of them 0");
            }

            if (reader.Header.TryGet(Hash, out _))
                CheckHash(reader, path);
            StateFile file = new(reader, entry);
            string[] names = ItemNames.Read(reader, path, checked((int)entry.Shape[0]));
            for (int i = 0; i < names.Length; i++)
                file._places.Add(names[i], i);
            return file;
        }
        catch
        {
            reader.Dispose();
            throw;
        }
    }

    /// <summary>Writes a file under a temporary name, flushes and renames it: a kill leaves the old file or the whole new one.</summary>
    /// <param name="path">The file.</param>
    /// <param name="items">Names of the items, each once.</param>
    /// <param name="source">Where the states come from; each item is read once.</param>
    /// <param name="type">Element type; values are rounded to nearest even.</param>
    /// <param name="progress">Told how many items are written; may be null.</param>
    /// <param name="metadata">Notes about the states, see <see cref="Metadata"/>; may be null.</param>
    /// <exception cref="ArgumentException">There is no item, or one is named twice.</exception>
    /// <exception cref="IOException">It cannot be written.</exception>
    public static void Write(
        string path,
        IReadOnlyList<string> items,
        IItemStates source,
        StateType type = StateType.F16,
        Action<int>? progress = null,
        IReadOnlyDictionary<string, string>? metadata = null)
    {
        if (items.Count == 0)
            throw new ArgumentException("a file of states needs at least one item", nameof(items));
        if (items.Distinct(StringComparer.Ordinal).Count() != items.Count)
            throw new ArgumentException("an item is named twice", nameof(items));
        byte[][] names = [.. items.Select(Encoding.UTF8.GetBytes)];
        long[] ends = new long[items.Count];
        for (int i = 0; i < ends.Length; i++)
            ends[i] = (i == 0 ? 0 : ends[i - 1]) + names[i].Length;
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        int elementBytes = type == StateType.F32 ? sizeof(float) : sizeof(ushort);
        byte[] row = new byte[checked(source.Layers * source.Width * elementBytes)];
        float[] states = new float[source.Layers * source.Width];
        long held = -1;
        byte[] allNames = [.. names.SelectMany(name => name)];
        SafetensorsWriter writer = new();
        writer.AddMetadata("format", "cudamoe-states");
        foreach ((string key, string value) in metadata ?? new Dictionary<string, string>())
            writer.AddMetadata(key, value);
        writer.Add(NameEnds, TensorDataType.I64, [items.Count], Hashed(MemoryMarshal.AsBytes(ends.AsSpan()).ToArray()));
        writer.Add(States, DataType(type), [items.Count, source.Layers, source.Width], (offset, destination) =>
        {
            while (!destination.IsEmpty)
            {
                long item = offset / row.Length;
                if (item != held)
                {
                    source.Read(items[(int)item], states);
                    StateElements.Encode(states, type, row);
                    hash.AppendData(row);
                    held = item;
                    progress?.Invoke((int)item + 1);
                }

                int begin = (int)(offset % row.Length);
                int count = Math.Min(destination.Length, row.Length - begin);
                row.AsSpan(begin, count).CopyTo(destination);
                destination = destination[count..];
                offset += count;
            }
        });
        writer.Add(Names, TensorDataType.U8, [allNames.Length], Hashed(allNames));
        writer.Add(Hash, TensorDataType.U8, [HashBytes], (_, destination) => hash.GetHashAndReset().CopyTo(destination));
        writer.Save(path);

        TensorBytes Hashed(byte[] bytes) => (offset, destination) =>
        {
            bytes.AsSpan((int)offset, destination.Length).CopyTo(destination);
            hash.AppendData(destination);
        };
    }

    /// <inheritdoc/>
    public bool Read(string item, Span<float> states)
    {
        Span<float> all = states[..(Layers * Width)];
        if (!_places.TryGetValue(item, out int place))
        {
            all.Clear();
            return false;
        }

        int bytes = all.Length * (_entry.Type == TensorDataType.F32 ? sizeof(float) : sizeof(ushort));
        StateElements.Decode(_reader.Bytes(States, (long)place * bytes, bytes), _entry.Type, all);
        return true;
    }

    /// <inheritdoc/>
    public void Dispose() => _reader.Dispose();

    private static bool IsState(TensorDataType type) => type is TensorDataType.F32 or TensorDataType.F16 or TensorDataType.BF16;

    private static TensorDataType DataType(StateType type) =>
        type switch { StateType.F32 => TensorDataType.F32, StateType.F16 => TensorDataType.F16, _ => TensorDataType.BF16 };

    private static void CheckHash(SafetensorsReader reader, string path)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string name in (string[])[NameEnds, States, Names])
        {
            const int part = 1 << 20;
            long length = reader.Header[name].ByteLength;
            for (long start = 0; start < length; start += part)
                hash.AppendData(reader.Bytes(name, start, (int)Math.Min(part, length - start)));
        }

        if (!hash.GetHashAndReset().AsSpan().SequenceEqual(reader.Bytes(Hash)))
            throw new CheckpointFormatException(path, $"does not match its tensor \"{Hash}\": the file was altered");
    }
}
