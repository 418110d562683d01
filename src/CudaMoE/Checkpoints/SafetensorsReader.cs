using System.IO.MemoryMappedFiles;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace CudaMoE.Checkpoints;

/// <summary>
/// A safetensors file, mapped into memory. The header is checked when it is opened; data is read from the map when it is asked for.
/// </summary>
/// <remarks>
/// Safe for use by several threads until it is disposed; spans are valid until then. The file must not be shortened in place while it
/// is open; <see cref="SafetensorsWriter"/> never does that, it writes a new file and renames it. On Windows nobody can give an open file's name to another; the
/// writer then says so.
/// </remarks>
public sealed unsafe class SafetensorsReader : IDisposable
{
    private readonly MemoryMappedFile _map;
    private readonly MemoryMappedViewAccessor _view;
    private readonly byte* _data;
    private bool _disposed;

    private SafetensorsReader(SafetensorsHeader header, MemoryMappedFile map, MemoryMappedViewAccessor view, byte* data)
    {
        Header = header;
        _map = map;
        _view = view;
        _data = data;
    }

    /// <summary>Tensors and metadata.</summary>
    public SafetensorsHeader Header { get; }

    /// <summary>Opens a file and checks its header.</summary>
    /// <exception cref="CheckpointFormatException">A rule of the format is broken.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static SafetensorsReader Open(string path)
    {
        FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 0);
        MemoryMappedFile? map = null;
        MemoryMappedViewAccessor? view = null;
        try
        {
            SafetensorsHeader header = SafetensorsHeader.Read(stream, path);
            map = MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false);
            view = map.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
            byte* start = null;
            view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
            return new(header, map, view, start + view.PointerOffset + header.DataStart);
        }
        catch
        {
            view?.Dispose();
            map?.Dispose();
            stream.Dispose();
            throw;
        }
    }

    /// <summary>The bytes of a tensor, without a copy.</summary>
    /// <exception cref="CheckpointFormatException">There is no such tensor.</exception>
    /// <exception cref="NotSupportedException">It has 2 GiB or more; use <see cref="CopyTo(string, long, Span{byte})"/>.</exception>
    public ReadOnlySpan<byte> Bytes(string name)
    {
        TensorEntry entry = Entry(name);
        if (entry.ByteLength > int.MaxValue)
            throw new NotSupportedException($"tensor \"{name}\" has {entry.ByteLength} bytes, more than a span can hold; copy it in parts");
        return new(_data + entry.Offset, (int)entry.ByteLength);
    }

    /// <summary>A part of the bytes of a tensor, without a copy.</summary>
    /// <exception cref="CheckpointFormatException">There is no such tensor.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The part is not within the tensor.</exception>
    public ReadOnlySpan<byte> Bytes(string name, long start, int length)
    {
        TensorEntry entry = Entry(name);
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(start, entry.ByteLength - length);
        return new(_data + entry.Offset + start, length);
    }

    /// <summary>The elements of a tensor, without a copy. BF16 is read as <see cref="ushort"/>.</summary>
    /// <exception cref="CheckpointFormatException">There is no such tensor, or it has another type.</exception>
    /// <exception cref="NotSupportedException">It has 2 GiB or more, or lies at an address that the type does not allow; copy it instead.</exception>
    public ReadOnlySpan<T> Elements<T>(string name)
        where T : unmanaged
    {
        CheckType<T>(Entry(name));
        ReadOnlySpan<byte> bytes = Bytes(name);
        if ((nint)Unsafe.AsPointer(ref MemoryMarshal.GetReference(bytes)) % sizeof(T) != 0)
            throw new NotSupportedException($"tensor \"{name}\" does not lie at a multiple of {sizeof(T)} bytes; copy it");
        return MemoryMarshal.Cast<byte, T>(bytes);
    }

    /// <summary>Copies the bytes of a tensor from <paramref name="start"/> on, as many as the destination takes.</summary>
    /// <exception cref="CheckpointFormatException">There is no such tensor.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The part is not within the tensor.</exception>
    public void CopyTo(string name, long start, Span<byte> destination)
    {
        TensorEntry entry = Entry(name);
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(start, entry.ByteLength - destination.Length);
        new ReadOnlySpan<byte>(_data + entry.Offset + start, destination.Length).CopyTo(destination);
    }

    /// <summary>Copies all elements of a tensor; the destination has exactly their number. BF16 is read as <see cref="ushort"/>.</summary>
    /// <exception cref="CheckpointFormatException">There is no such tensor, or it has another type or number of elements.</exception>
    public void CopyTo<T>(string name, Span<T> destination)
        where T : unmanaged
    {
        TensorEntry entry = Entry(name);
        CheckType<T>(entry);
        CheckCount(entry, destination.Length);
        CopyTo(name, 0, MemoryMarshal.AsBytes(destination));
    }

    /// <summary>Copies all bytes of a tensor to native memory that has room for exactly <paramref name="bytes"/>.</summary>
    /// <exception cref="CheckpointFormatException">There is no such tensor, or it has another length.</exception>
    public void CopyTo(string name, void* destination, long bytes)
    {
        TensorEntry entry = Entry(name);
        if (bytes != entry.ByteLength)
            throw new CheckpointFormatException(Header.File, $"tensor \"{name}\" has {entry.ByteLength} bytes; {bytes} were expected");
        Buffer.MemoryCopy(_data + entry.Offset, destination, bytes, bytes);
    }

    /// <summary>Reads a tensor of F32, BF16, F16 or F64 as floats; F64 is rounded to nearest.</summary>
    /// <exception cref="CheckpointFormatException">There is no such tensor, or it has another type or number of elements.</exception>
    public void ReadSingles(string name, Span<float> destination)
    {
        TensorEntry entry = Entry(name);
        CheckCount(entry, destination.Length);
        byte* source = _data + entry.Offset;
        switch (entry.Type)
        {
            case TensorDataType.F32:
                CopyTo(name, 0, MemoryMarshal.AsBytes(destination));
                break;
            case TensorDataType.BF16:
                for (int i = 0; i < destination.Length; i++)
                    destination[i] = BitConverter.Int32BitsToSingle(Unsafe.ReadUnaligned<ushort>(source + (i * 2L)) << 16);
                break;
            case TensorDataType.F16:
                for (int i = 0; i < destination.Length; i++)
                    destination[i] = (float)Unsafe.ReadUnaligned<Half>(source + (i * 2L));
                break;
            case TensorDataType.F64:
                for (int i = 0; i < destination.Length; i++)
                    destination[i] = (float)Unsafe.ReadUnaligned<double>(source + (i * 8L));
                break;
            default:
                throw new CheckpointFormatException(Header.File, $"tensor \"{name}\" is {entry.Type.Name()}; F32, BF16, F16 or F64 was expected");
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _map.Dispose();
    }

    private TensorEntry Entry(string name)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        return Header[name];
    }

    private void CheckType<T>(TensorEntry entry)
        where T : unmanaged
    {
        if (!entry.Type.Holds<T>())
            throw new CheckpointFormatException(Header.File, $"tensor \"{entry.Name}\" is {entry.Type.Name()}, which is not read as {typeof(T).Name}");
    }

    private void CheckCount(TensorEntry entry, long count)
    {
        if (entry.Count != count)
            throw new CheckpointFormatException(Header.File, $"tensor \"{entry.Name}\" has shape {entry.ShapeText}, {entry.Count} elements; {count} were expected");
    }
}
