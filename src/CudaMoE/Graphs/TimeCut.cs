using System.Buffers.Binary;

namespace CudaMoE.Graphs;

/// <summary>
/// Finds the time at a place of the sorted times, exactly and in constant memory: the times go to a temporary file as integers of the same order, and
/// four passes over it each fix 16 bits.
/// </summary>
internal static class TimeCut
{
    private const int BlockTimes = 1 << 16;

    /// <summary>The least time that belongs to the later part; positive infinity when the first part is all.</summary>
    public static double Find(InteractionReader reader, double fraction, string folder, Action<double> report)
    {
        if (fraction >= 1)
            return double.PositiveInfinity;
        string path = Path.Combine(folder, "times");
        long count = 0;
        using (BufferedStream file = new(new FileStream(path, FileMode.CreateNew, FileAccess.Write), 1 << 20))
        {
            byte[] bytes = new byte[sizeof(ulong)];
            reader.ReadTimes(
                time =>
                {
                    BinaryPrimitives.WriteUInt64LittleEndian(bytes, Key(time));
                    file.Write(bytes);
                    count++;
                },
                report);
        }

        ulong key = 0;
        if (count > 0)
            key = Select(path, Math.Min(count - 1, (long)Math.Floor(fraction * count)));
        File.Delete(path);
        return Time(key);
    }

    private static ulong Select(string path, long place)
    {
        ulong prefix = 0;
        for (int shift = 48; shift >= 0; shift -= 16)
        {
            long[] counts = new long[1 << 16];
            using FileStream file = new(path, FileMode.Open, FileAccess.Read);
            byte[] block = new byte[BlockTimes * sizeof(ulong)];
            for (int read = file.ReadAtLeast(block, block.Length, throwOnEndOfStream: false); read > 0; read = file.ReadAtLeast(block, block.Length, throwOnEndOfStream: false))
            {
                for (int i = 0; i < read; i += sizeof(ulong))
                {
                    ulong key = BinaryPrimitives.ReadUInt64LittleEndian(block.AsSpan(i));
                    if (shift == 48 || key >> (shift + 16) == prefix >> (shift + 16))
                        counts[(key >> shift) & 0xFFFF]++;
                }
            }

            int digit = 0;
            for (; place >= counts[digit]; digit++)
                place -= counts[digit];
            prefix |= (ulong)digit << shift;
        }

        return prefix;
    }

    // The order of doubles as that of unsigned integers.
    private static ulong Key(double time)
    {
        ulong bits = BitConverter.DoubleToUInt64Bits(time + 0.0);
        return (bits >> 63) == 0 ? bits | (1UL << 63) : ~bits;
    }

    private static double Time(ulong key) => BitConverter.UInt64BitsToDouble((key >> 63) != 0 ? key & ~(1UL << 63) : ~key);
}
