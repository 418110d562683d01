namespace CudaMoE.CudaReport;

/// <summary>
/// How many warps of a kernel a multiprocessor holds at a time, by the limits of its compute capability (CUDA C++ Programming Guide, "Features
/// and Technical Specifications") and the granularity in which registers and shared memory are handed out (NVIDIA's occupancy calculator).
/// </summary>
internal static class Occupancy
{
    /// <summary>The limits of a multiprocessor. Shared memory in bytes; a block takes 1 KiB of it for the system.</summary>
    internal readonly record struct Multiprocessor(int Warps, int Blocks, int SharedBytes, int SharedBytesOfBlock);

    private const int Registers = 65536, RegistersOfThread = 255, Warp = 32, ReservedSharedBytes = 1024;
    private const int RegisterUnit = 256, SharedUnit = 128, WarpUnit = 4;

    public static Multiprocessor Limits(string architecture) => architecture switch
    {
        "sm_80" => new(64, 32, 164 << 10, 163 << 10),
        "sm_86" => new(48, 16, 100 << 10, 99 << 10),
        "sm_89" => new(48, 24, 100 << 10, 99 << 10),
        "sm_90" or "sm_90a" => new(64, 32, 228 << 10, 227 << 10),
        _ => throw new InvalidDataException($"the limits of {architecture} are not known; Occupancy.cs lists them"),
    };

    /// <summary>0 when not even one block fits.</summary>
    public static int ResidentWarps(string architecture, int registers, int sharedBytes, int threads)
    {
        Multiprocessor limits = Limits(architecture);
        int warps = (threads + Warp - 1) / Warp;
        if (warps == 0 || registers > RegistersOfThread || sharedBytes > limits.SharedBytesOfBlock)
            return 0;
        int registersOfWarp = Math.Max(RoundUp(registers * Warp, RegisterUnit), RegisterUnit);
        int byRegisters = Registers / registersOfWarp / WarpUnit * WarpUnit / warps;
        int byShared = limits.SharedBytes / RoundUp(sharedBytes + ReservedSharedBytes, SharedUnit);
        int blocks = Math.Min(Math.Min(byRegisters, byShared), Math.Min(limits.Blocks, limits.Warps / warps));
        return blocks * warps;
    }

    private static int RoundUp(int value, int unit) => (value + unit - 1) / unit * unit;
}
