using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary><c>cudamoe_gemm_pack_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GemmPackArgs
{
    public uint StructSize;
    public int Groups;
    public long N;
    public long K;
    public float* Weights;
    public long WeightsRowStride;
    public long WeightsGroupStride;
    public int Transposed;
    public int Dtype;
    public void* Packed;
    public long PackedBytes;
}

/// <summary><c>cudamoe_gemm_forward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GemmForwardArgs
{
    public uint StructSize;
    public int Groups;
    public long Rows;
    public long N;
    public long K;
    public long* Offsets;
    public int* Gather;
    public long XRows;
    public void* X;
    public long XRowStride;
    public long XGroupStride;
    public void* Packed;
    public float* Bias;
    public long BiasGroupStride;
    public void* Y;
    public long YRowStride;
    public long YGroupStride;
    public void* Preactivation;
    public int XDtype;
    public int PackedDtype;
    public int YDtype;
    public int Activation;
    public float ActivationSlope;
    public int Accumulate;
    public void* Workspace;
    public long WorkspaceBytes;
}

/// <summary><c>cudamoe_gemm_dgrad_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GemmDgradArgs
{
    public uint StructSize;
    public int Groups;
    public long Rows;
    public long N;
    public long K;
    public long* Offsets;
    public void* Dz;
    public long DzRowStride;
    public long DzGroupStride;
    public void* Packed;
    public void* Dx;
    public long DxRowStride;
    public long DxGroupStride;
    public void* Below;
    public long BelowRowStride;
    public long BelowGroupStride;
    public int DzDtype;
    public int PackedDtype;
    public int DxDtype;
    public int Activation;
    public float ActivationSlope;
    public int Accumulate;
    public void* Workspace;
    public long WorkspaceBytes;
}

/// <summary><c>cudamoe_gemm_wgrad_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GemmWgradArgs
{
    public uint StructSize;
    public int Groups;
    public long Rows;
    public long N;
    public long K;
    public long* Offsets;
    public int* Gather;
    public long XRows;
    public void* Dz;
    public long DzRowStride;
    public long DzGroupStride;
    public void* X;
    public long XRowStride;
    public long XGroupStride;
    public float* Dw;
    public long DwRowStride;
    public long DwGroupStride;
    public float* Dbias;
    public long DbiasGroupStride;
    public int DzDtype;
    public int XDtype;
    public int ComputeDtype;
    public int Accumulate;
    public void* Workspace;
    public long WorkspaceBytes;
}
