using System.Runtime.InteropServices;
using CudaMoE.Checkpoints;

namespace CudaMoE.Export;

/// <summary>The parameters of a checkpoint as constants of a graph, as f32. Every one must be there with the shape that is asked for, and every one must be asked for.</summary>
internal sealed class ExportWeights(SafetensorsReader reader)
{
    private readonly HashSet<string> _used = [];

    /// <summary>A parameter as it is.</summary>
    public OnnxTensor Tensor(string name, params long[] shape) => Tensor(name, shape, shape);

    /// <summary>A parameter with other extents over the same elements.</summary>
    public OnnxTensor Tensor(string name, long[] shape, long[] written)
    {
        TensorEntry entry = Entry(name, shape);
        return new(name, OnnxType.Float, written, entry.Count * sizeof(float), stream => Copy(entry, stream));
    }

    /// <summary>The elements of a parameter.</summary>
    public float[] Values(string name, params long[] shape)
    {
        TensorEntry entry = Entry(name, shape);
        float[] values = new float[entry.Count];
        reader.ReadSingles(name, values);
        return values;
    }

    /// <summary>A parameter [groups, rows, columns] as [groups, columns, rows].</summary>
    public OnnxTensor Transposed(string name, long[] shape, int groups, int rows, int columns)
    {
        float[] transposed = Transpose(Values(name, shape), groups, rows, columns);
        return OnnxTensor.Of(name + ".transposed", OnnxType.Float, transposed, [groups, columns, rows]);
    }

    /// <summary>[groups, rows, columns] to [groups, columns, rows].</summary>
    public static float[] Transpose(float[] values, int groups, int rows, int columns)
    {
        float[] result = new float[values.Length];
        for (int g = 0; g < groups; g++)
        {
            for (int r = 0; r < rows; r++)
            {
                for (int c = 0; c < columns; c++)
                    result[(((g * columns) + c) * rows) + r] = values[(((g * rows) + r) * columns) + c];
            }
        }

        return result;
    }

    /// <summary>Checks that nothing of the checkpoint is left out.</summary>
    /// <exception cref="CheckpointFormatException">A tensor was not asked for.</exception>
    public void RefuseUnused()
    {
        foreach (TensorEntry entry in reader.Header.Tensors)
        {
            if (!_used.Contains(entry.Name))
                throw new CheckpointFormatException(reader.Header.File, $"tensor {entry.Name} is not one of the model's");
        }
    }

    private TensorEntry Entry(string name, long[] shape)
    {
        if (!reader.Header.TryGet(name, out TensorEntry? entry))
            throw new CheckpointFormatException(reader.Header.File, $"has no tensor {name}; the model needs it");
        if (!entry!.Shape.SequenceEqual(shape) || entry.Type is not (TensorDataType.F32 or TensorDataType.BF16))
        {
            throw new CheckpointFormatException(
                reader.Header.File,
                $"tensor {name} is {entry.Type} [{string.Join(", ", entry.Shape)}]; the model needs F32 or BF16 [{string.Join(", ", shape)}]");
        }

        _used.Add(name);
        return entry;
    }

    /// <summary>Writes the elements in blocks; bf16 is widened.</summary>
    private void Copy(TensorEntry entry, Stream stream)
    {
        const int block = 1 << 16;
        bool bf16 = entry.Type == TensorDataType.BF16;
        float[] widened = bf16 ? new float[block] : [];
        for (long first = 0; first < entry.Count; first += block)
        {
            int count = (int)Math.Min(block, entry.Count - first);
            if (!bf16)
            {
                stream.Write(reader.Bytes(entry.Name, first * sizeof(float), count * sizeof(float)));
                continue;
            }

            ReadOnlySpan<ushort> halves = MemoryMarshal.Cast<byte, ushort>(reader.Bytes(entry.Name, first * sizeof(ushort), count * sizeof(ushort)));
            for (int i = 0; i < count; i++)
                widened[i] = Tensors.BFloat16.ToSingle(halves[i]);
            stream.Write(MemoryMarshal.AsBytes(widened.AsSpan(0, count)));
        }
    }
}
