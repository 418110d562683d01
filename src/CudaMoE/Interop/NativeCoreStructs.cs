using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary><c>cudamoe_backend_info</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct BackendInfo
{
    public uint StructSize;
    public int Usable;
    public fixed byte Name[16];
    public fixed byte Library[512];
    public fixed byte Reason[512];
}

/// <summary><c>cudamoe_device_info</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct DeviceInfo
{
    public uint StructSize;
    public int Threads;
    public int HostAccessible;
    public int SupportsBf16;
    public long MemoryBytes;
    public long LiveBytes;
    public long LiveAllocations;
    public fixed byte Backend[16];
    public fixed byte Name[128];
    public fixed byte Level[32];
    public int Faulted;
    public int Reserved;
    public long MappedBytes;
}
