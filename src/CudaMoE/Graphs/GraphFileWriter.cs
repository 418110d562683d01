using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text.Json;
using CudaMoE.Data;
using Microsoft.Win32.SafeHandles;

namespace CudaMoE.Graphs;

/// <summary>
/// Writes a graph file: 8 bytes of <see cref="Magic"/>; the sections, each at a multiple of 64 bytes, arrays of little-endian numbers; the directory as
/// JSON; and 24 bytes: its place, its length, its XXH64. Sections of known length may be written side by side.
/// </summary>
internal sealed class GraphFileWriter : IDisposable
{
    /// <summary>First bytes of a graph file.</summary>
    public const ulong Magic = 0x0131_4750_524D_4D43;

    /// <summary>Bytes that a checksum covers.</summary>
    public const int BlockBytes = 1 << 20;

    /// <summary>Bytes behind the directory.</summary>
    public const int TrailerBytes = 24;

    private const int Alignment = 64;
    private readonly SafeFileHandle _file;
    private readonly List<SectionWriter> _sections = [];
    private long _end = Alignment;

    public GraphFileWriter(string path)
    {
        _file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write, FileShare.None);
        byte[] magic = new byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(magic, Magic);
        RandomAccess.Write(_file, magic, 0);
    }

    /// <summary>Begins a section of that many elements.</summary>
    public SectionWriter Begin<T>(string name, long count)
        where T : unmanaged
    {
        long length = checked(count * Unsafe.SizeOf<T>());
        SectionWriter section = new(_file, name, _end, length);
        _end = (_end + length + Alignment - 1) / Alignment * Alignment;
        _sections.Add(section);
        return section;
    }

    /// <summary>Writes a whole section.</summary>
    public void Write<T>(string name, ReadOnlySpan<T> values)
        where T : unmanaged => Begin<T>(name, values.Length).Write(values);

    /// <summary>Writes the directory and flushes all to the disk.</summary>
    public void Finish(MacroGraphInfo info)
    {
        GraphDirectory directory = new() { Version = GraphDirectory.CurrentVersion, Info = info, Sections = [.. _sections.Select(section => section.Finish())] };
        byte[] json = JsonSerializer.SerializeToUtf8Bytes(directory, GraphJson.Default.GraphDirectory);
        byte[] trailer = new byte[TrailerBytes];
        BinaryPrimitives.WriteInt64LittleEndian(trailer, _end);
        BinaryPrimitives.WriteInt64LittleEndian(trailer.AsSpan(8), json.Length);
        BinaryPrimitives.WriteUInt64LittleEndian(trailer.AsSpan(16), XxHash64.Hash(json));
        RandomAccess.Write(_file, json, _end);
        RandomAccess.Write(_file, trailer, _end + json.Length);
        RandomAccess.FlushToDisk(_file);
    }

    public void Dispose() => _file.Dispose();
}

/// <summary>Appends to one section of a graph file.</summary>
internal sealed class SectionWriter(SafeFileHandle file, string name, long offset, long length)
{
    private readonly byte[] _block = new byte[Math.Min(length, GraphFileWriter.BlockBytes)];
    private readonly List<ulong> _checksums = [];
    private int _filled;
    private long _written;

    public void Write<T>(ReadOnlySpan<T> values)
        where T : unmanaged
    {
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(values);
        if (bytes.Length > length - _written - _filled)
            throw new InvalidOperationException($"section {name} is longer than the {length} bytes it was begun with");
        while (!bytes.IsEmpty)
        {
            int count = Math.Min(bytes.Length, _block.Length - _filled);
            bytes[..count].CopyTo(_block.AsSpan(_filled));
            bytes = bytes[count..];
            _filled += count;
            if (_filled == _block.Length)
                Flush();
        }
    }

    public GraphSection Finish()
    {
        if (_filled > 0)
            Flush();
        return _written == length
            ? new(name, offset, length, _checksums)
            : throw new InvalidOperationException($"section {name} has {_written} of {length} bytes");
    }

    private void Flush()
    {
        ReadOnlySpan<byte> block = _block.AsSpan(0, _filled);
        _checksums.Add(XxHash64.Hash(block));
        RandomAccess.Write(file, block, offset + _written);
        _written += _filled;
        _filled = 0;
    }
}
