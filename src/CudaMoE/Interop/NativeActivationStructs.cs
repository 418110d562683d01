using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary><c>cudamoe_gated_product_forward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GatedProductForwardArgs
{
    public uint StructSize;
    public int Activation;
    public float ActivationSlope;
    public int Reserved;
    public long Rows;
    public long Width;
    public float* A;
    public long ARowStride;
    public float* B;
    public long BRowStride;
    public float* Y;
    public long YRowStride;
}

/// <summary><c>cudamoe_gated_product_backward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GatedProductBackwardArgs
{
    public uint StructSize;
    public int Activation;
    public float ActivationSlope;
    public int AccumulateA;
    public int AccumulateB;
    public int Reserved;
    public long Rows;
    public long Width;
    public float* A;
    public long ARowStride;
    public float* B;
    public long BRowStride;
    public float* Dy;
    public long DyRowStride;
    public float* Da;
    public long DaRowStride;
    public float* Db;
    public long DbRowStride;
}
