using System.Buffers.Binary;
using System.Numerics;

namespace CudaMoE.Data;

/// <summary>
/// The 64-bit xxHash (XXH64, Yann Collet's published specification): hashes categories to table rows and checks cache files. Its values
/// are part of what a checkpoint means, so they never change.
/// </summary>
public static class XxHash64
{
    private const ulong Prime1 = 0x9E3779B185EBCA87;
    private const ulong Prime2 = 0xC2B2AE3D27D4EB4F;
    private const ulong Prime3 = 0x165667B19E3779F9;
    private const ulong Prime4 = 0x85EBCA77C2B2AE63;
    private const ulong Prime5 = 0x27D4EB2F165667C5;

    /// <summary>The hash of <paramref name="data"/>.</summary>
    public static ulong Hash(ReadOnlySpan<byte> data, ulong seed = 0)
    {
        ulong hash;
        int length = data.Length;
        if (length >= 32)
        {
            ulong lane1 = seed + Prime1 + Prime2;
            ulong lane2 = seed + Prime2;
            ulong lane3 = seed;
            ulong lane4 = seed - Prime1;
            while (data.Length >= 32)
            {
                lane1 = Round(lane1, BinaryPrimitives.ReadUInt64LittleEndian(data));
                lane2 = Round(lane2, BinaryPrimitives.ReadUInt64LittleEndian(data[8..]));
                lane3 = Round(lane3, BinaryPrimitives.ReadUInt64LittleEndian(data[16..]));
                lane4 = Round(lane4, BinaryPrimitives.ReadUInt64LittleEndian(data[24..]));
                data = data[32..];
            }

            hash = BitOperations.RotateLeft(lane1, 1) + BitOperations.RotateLeft(lane2, 7)
                + BitOperations.RotateLeft(lane3, 12) + BitOperations.RotateLeft(lane4, 18);
            hash = Merge(Merge(Merge(Merge(hash, lane1), lane2), lane3), lane4);
        }
        else
        {
            hash = seed + Prime5;
        }

        hash += (ulong)length;
        for (; data.Length >= 8; data = data[8..])
            hash = (BitOperations.RotateLeft(hash ^ Round(0, BinaryPrimitives.ReadUInt64LittleEndian(data)), 27) * Prime1) + Prime4;
        if (data.Length >= 4)
        {
            hash = (BitOperations.RotateLeft(hash ^ (BinaryPrimitives.ReadUInt32LittleEndian(data) * Prime1), 23) * Prime2) + Prime3;
            data = data[4..];
        }

        foreach (byte value in data)
            hash = BitOperations.RotateLeft(hash ^ (value * Prime5), 11) * Prime1;
        hash = (hash ^ (hash >> 33)) * Prime2;
        hash = (hash ^ (hash >> 29)) * Prime3;
        return hash ^ (hash >> 32);
    }

    private static ulong Round(ulong lane, ulong input) => BitOperations.RotateLeft(lane + (input * Prime2), 31) * Prime1;

    private static ulong Merge(ulong hash, ulong lane) => ((hash ^ Round(0, lane)) * Prime1) + Prime4;
}
