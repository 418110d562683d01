using System.Globalization;
using System.Text;
using CudaMoE.Checkpoints;

namespace CudaMoE.Streaming;

/// <summary>The names of items in a safetensors file: "names" (u8, UTF-8, one after the other) and "name_ends" [items] (i64, where each ends).</summary>
internal static class ItemNames
{
    public const string Names = "names";
    public const string Ends = "name_ends";

    /// <summary>Reads all names, each of which must be there once.</summary>
    /// <exception cref="CheckpointFormatException">A tensor is missing or wrong, or an item is named twice.</exception>
    public static string[] Read(SafetensorsReader reader, string path, int count)
    {
        long[] ends = new long[count];
        reader.CopyTo<long>(Ends, ends);
        if (reader.Header[Names].Type != TensorDataType.U8)
            throw new CheckpointFormatException(path, $"tensor \"{Names}\" is {reader.Header[Names].Type}; it must be u8");
        ReadOnlySpan<byte> bytes = reader.Bytes(Names);
        string[] names = new string[count];
        HashSet<string> known = new(StringComparer.Ordinal);
        long begin = 0;
        for (int i = 0; i < count; i++)
        {
            if (ends[i] < begin || ends[i] > bytes.Length)
                throw new CheckpointFormatException(path, string.Create(CultureInfo.InvariantCulture, $"tensor \"{Ends}\" has {ends[i]} at {i}; it must ascend to the {bytes.Length} bytes of \"{Names}\""));
            names[i] = Encoding.UTF8.GetString(bytes[(int)begin..(int)ends[i]]);
            if (!known.Add(names[i]))
                throw new CheckpointFormatException(path, $"names item \"{names[i]}\" twice");
            begin = ends[i];
        }

        return names;
    }
}
