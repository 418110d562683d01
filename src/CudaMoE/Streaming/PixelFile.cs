using CudaMoE.Checkpoints;

namespace CudaMoE.Streaming;

/// <summary>
/// The pictures of items in a memory-mapped safetensors file: tensor "pixel_values" [items, channels, height, width] of f32, f16 or bf16, scaled and
/// normalised as the encoder wants them, and the items' names as in a <see cref="StateFile"/>: "names" and "name_ends".
/// </summary>
/// <remarks>Safe for concurrent reads until it is disposed.</remarks>
public sealed class PixelFile : IDisposable
{
    private const string Pixels = "pixel_values";
    private readonly SafetensorsReader _reader;
    private readonly TensorEntry _entry;
    private readonly string _path;
    private readonly int _count;

    private PixelFile(SafetensorsReader reader, TensorEntry entry, string path, string[] items)
    {
        _reader = reader;
        _entry = entry;
        _path = path;
        _count = checked((int)(entry.Shape[1] * entry.Shape[2] * entry.Shape[3]));
        Items = items;
    }

    /// <summary>Names of the items, in the order of the file.</summary>
    public IReadOnlyList<string> Items { get; }

    /// <summary>Opens and checks a file.</summary>
    /// <exception cref="CheckpointFormatException">It is not such a file; the message says what is wrong.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static PixelFile Open(string path)
    {
        SafetensorsReader reader = SafetensorsReader.Open(path);
        try
        {
            TensorEntry entry = reader.Header[Pixels];
            bool number = entry.Type is TensorDataType.F32 or TensorDataType.F16 or TensorDataType.BF16;
            if (entry.Shape.Count != 4 || entry.Shape.Any(extent => extent is < 1 or > int.MaxValue) || !number || entry.Count / entry.Shape[0] > int.MaxValue)
                throw new CheckpointFormatException(path, $"tensor \"{Pixels}\" is {entry.Type} {entry.ShapeText}; it must be f32, f16 or bf16 [items, channels, height, width], none of them 0");
            return new(reader, entry, path, ItemNames.Read(reader, path, checked((int)entry.Shape[0])));
        }
        catch
        {
            reader.Dispose();
            throw;
        }
    }

    /// <summary>Checks that the pictures have the size that an encoder reads.</summary>
    /// <exception cref="CheckpointFormatException">They do not; the message names both.</exception>
    public void CheckSize(int channels, int height, int width)
    {
        if (_entry.Shape[1] != channels || _entry.Shape[2] != height || _entry.Shape[3] != width)
            throw new CheckpointFormatException(_path, $"tensor \"{Pixels}\" is {_entry.ShapeText}; the encoder reads pictures of [{channels}, {height}, {width}]");
    }

    /// <summary>Reads a picture.</summary>
    /// <param name="index">Its place in <see cref="Items"/>.</param>
    /// <param name="pixels">[channels, height, width], all written.</param>
    public void Read(int index, Span<float> pixels)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, Items.Count);
        int bytes = _count * _entry.Type.Size();
        StateElements.Decode(_reader.Bytes(Pixels, (long)index * bytes, bytes), _entry.Type, pixels[.._count]);
    }

    /// <inheritdoc/>
    public void Dispose() => _reader.Dispose();
}
