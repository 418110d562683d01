using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace CudaMoE.Checkpoints;

/// <summary>Fills <paramref name="destination"/> with the bytes of a tensor from byte <paramref name="offset"/> on.</summary>
public delegate void TensorBytes(long offset, Span<byte> destination);

/// <summary>
/// Writes a safetensors file. Tensors are added first and streamed by <see cref="Save"/>, in an order that depends on their types and names
/// only: largest elements first, then by name, so that every tensor lies at a multiple of its element's size; the data part
/// begins at a multiple of 64 bytes. The same tensors give the same bytes.
/// </summary>
/// <remarks>Not thread-safe. The memory that was added must stay as it is until <see cref="Save"/> returns.</remarks>
public sealed class SafetensorsWriter
{
    private const int Alignment = 64;
    private const int BufferBytes = 1 << 20;
    private static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly Dictionary<string, (TensorEntry Entry, TensorBytes Read)> _tensors = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _metadata = new(StringComparer.Ordinal);

    /// <summary>Adds a string to the file's metadata.</summary>
    /// <exception cref="ArgumentException">The key was added before, or a text is not valid Unicode.</exception>
    public void AddMetadata(string key, string value)
    {
        CheckText(key, nameof(key));
        CheckText(value, nameof(value));
        if (!_metadata.TryAdd(key, value))
            throw new ArgumentException($"metadata key \"{key}\" was added before", nameof(key));
    }

    /// <summary>Adds a tensor whose bytes come from a call, e.g. a copy from a device.</summary>
    /// <exception cref="ArgumentException">The name was added before or is reserved, or the shape is negative or too large.</exception>
    public void Add(string name, TensorDataType type, IReadOnlyList<long> shape, TensorBytes read)
    {
        ArgumentNullException.ThrowIfNull(read);
        CheckText(name, nameof(name));
        if (name == SafetensorsHeader.MetadataKey)
            throw new ArgumentException($"a tensor cannot be called {name}", nameof(name));
        if (shape.Any(extent => extent < 0) || !TensorEntry.TryByteLength(type, shape, out long bytes))
            throw new ArgumentException($"tensor \"{name}\" has shape [{string.Join(", ", shape)}]; extents are 0 or more and the size fits 63 bits", nameof(shape));
        if (!_tensors.TryAdd(name, (new(name, type, [.. shape], 0, bytes), read)))
            throw new ArgumentException($"tensor \"{name}\" was added before", nameof(name));
    }

    /// <summary>Adds a tensor in native memory that the host can read.</summary>
    /// <exception cref="ArgumentException">As the other overload; or the address is null and the tensor not empty.</exception>
    public unsafe void Add(string name, TensorDataType type, IReadOnlyList<long> shape, nint address)
    {
        Add(name, type, shape, (offset, destination) => new ReadOnlySpan<byte>((byte*)address + offset, destination.Length).CopyTo(destination));
        if (address == 0 && _tensors[name].Entry.ByteLength > 0)
        {
            _tensors.Remove(name);
            throw new ArgumentException($"tensor \"{name}\" has a null address", nameof(address));
        }
    }

    /// <summary>Adds a tensor of managed elements. BF16 is given as <see cref="ushort"/>.</summary>
    /// <exception cref="ArgumentException">As the other overload; or the elements are not of the type or number that the tensor has.</exception>
    public void Add<T>(string name, TensorDataType type, IReadOnlyList<long> shape, ReadOnlyMemory<T> elements)
        where T : unmanaged
    {
        if (!type.Holds<T>())
            throw new ArgumentException($"tensor \"{name}\" is {type.Name()}, which is not given as {typeof(T).Name}", nameof(elements));
        Add(name, type, shape, (offset, destination) => CopyBytes(elements.Span, offset, destination));
        if (_tensors[name].Entry.Count != elements.Length)
        {
            _tensors.Remove(name);
            throw new ArgumentException($"tensor \"{name}\" has shape [{string.Join(", ", shape)}] but {elements.Length} elements", nameof(elements));
        }
    }

    /// <inheritdoc cref="Add{T}(string, TensorDataType, IReadOnlyList{long}, ReadOnlyMemory{T})"/>
    public void Add<T>(string name, TensorDataType type, IReadOnlyList<long> shape, T[] elements)
        where T : unmanaged => Add<T>(name, type, shape, (ReadOnlyMemory<T>)elements);

    /// <summary>
    /// Writes the file under a temporary name in the same folder, flushes it to the disk and renames it; a file of that name is replaced,
    /// and readers of the old one keep it.
    /// </summary>
    /// <returns>Length and SHA-256 of what was written.</returns>
    /// <exception cref="CudaMoEException">The header would be longer than the format allows.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public FileDigest Save(string path)
    {
        (TensorEntry Entry, TensorBytes Read)[] tensors =
        [
            .. _tensors.Values.OrderByDescending(tensor => tensor.Entry.Type.Size()).ThenBy(tensor => tensor.Entry.Name, StringComparer.Ordinal),
        ];
        long end = 0;
        for (int i = 0; i < tensors.Length; i++)
        {
            tensors[i].Entry = tensors[i].Entry with { Offset = end };
            end = checked(end + tensors[i].Entry.ByteLength);
        }

        byte[] header = SafetensorsHeader.Format([.. tensors.Select(tensor => tensor.Entry)], _metadata, Alignment);
        if (header.Length - SafetensorsHeader.LengthBytes > SafetensorsHeader.MaxHeaderBytes)
            throw new CudaMoEException($"{path}: the header would take {header.Length} bytes; the format allows {SafetensorsHeader.MaxHeaderBytes}");
        return AtomicFile.Write(path, stream =>
        {
            stream.Write(header);
            byte[] buffer = GC.AllocateUninitializedArray<byte>(BufferBytes);
            foreach ((TensorEntry entry, TensorBytes read) in tensors)
            {
                for (long offset = 0; offset < entry.ByteLength; offset += BufferBytes)
                {
                    Span<byte> part = buffer.AsSpan(0, (int)Math.Min(BufferBytes, entry.ByteLength - offset));
                    read(offset, part);
                    stream.Write(part);
                }
            }
        });
    }

    private static void CopyBytes<T>(ReadOnlySpan<T> elements, long offset, Span<byte> destination)
        where T : unmanaged
    {
        // By reference arithmetic, since the bytes of a span of elements may be more than a span of bytes can hold.
        ref byte first = ref Unsafe.As<T, byte>(ref MemoryMarshal.GetReference(elements));
        MemoryMarshal.CreateReadOnlySpan(ref Unsafe.AddByteOffset(ref first, (nint)offset), destination.Length).CopyTo(destination);
    }

    private static void CheckText(string text, string parameter)
    {
        ArgumentNullException.ThrowIfNull(text, parameter);
        try
        {
            StrictUtf8.GetByteCount(text);
        }
        catch (EncoderFallbackException error)
        {
            throw new ArgumentException("holds half a surrogate pair, which UTF-8 cannot express", parameter, error);
        }
    }
}
