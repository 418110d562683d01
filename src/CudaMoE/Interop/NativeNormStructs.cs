using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary><c>cudamoe_layer_norm_forward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct LayerNormForwardArgs
{
    public uint StructSize;
    public float Epsilon;
    public long Rows;
    public long Width;
    public float* X;
    public long XRowStride;
    public float* Gamma;
    public float* Beta;
    public float* Y;
    public long YRowStride;
    public float* Mean;
    public float* ReciprocalDeviation;
}

/// <summary><c>cudamoe_layer_norm_backward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct LayerNormBackwardArgs
{
    public uint StructSize;
    public int Accumulate;
    public long Rows;
    public long Width;
    public float* X;
    public long XRowStride;
    public float* Gamma;
    public float* Mean;
    public float* ReciprocalDeviation;
    public float* Dy;
    public long DyRowStride;
    public float* Dx;
    public long DxRowStride;
    public float* Dgamma;
    public float* Dbeta;
    public void* Workspace;
    public long WorkspaceBytes;
}

/// <summary><c>cudamoe_rms_norm_forward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct RmsNormForwardArgs
{
    public uint StructSize;
    public float Epsilon;
    public long Rows;
    public long Width;
    public float* X;
    public long XRowStride;
    public float* Gamma;
    public float* Y;
    public long YRowStride;
    public float* Reciprocal;
}

/// <summary><c>cudamoe_rms_norm_backward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct RmsNormBackwardArgs
{
    public uint StructSize;
    public int Accumulate;
    public long Rows;
    public long Width;
    public float* X;
    public long XRowStride;
    public float* Gamma;
    public float* Reciprocal;
    public float* Dy;
    public long DyRowStride;
    public float* Dx;
    public long DxRowStride;
    public float* Dgamma;
    public void* Workspace;
    public long WorkspaceBytes;
}
