using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary><c>cudamoe_combine_forward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct CombineForwardArgs
{
    public uint StructSize;
    public int Tasks;
    public long Rows;
    public long Width;
    public int Choices;
    public int Reserved;
    public float* Gates;
    public float* Residual;
    public int* SlotOfPair;
    public void* Expert;
    public long ExpertRowStride;
    public long ExpertStride;
    public long ExpertRows;
    public float* Y;
    public long YRowStride;
    public long YTaskStride;
    public int ExpertDtype;
    public int Reserved2;
}

/// <summary><c>cudamoe_combine_backward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct CombineBackwardArgs
{
    public uint StructSize;
    public int Tasks;
    public long Rows;
    public long Width;
    public int Choices;
    public int Activation;
    public float* Gates;
    public float* Residual;
    public int* SlotOfPair;
    public void* Expert;
    public void* Preactivation;
    public long ExpertRowStride;
    public long ExpertStride;
    public long ExpertRows;
    public float* Dy;
    public long DyRowStride;
    public long DyTaskStride;
    public float* TaskScale;
    public void* Dexpert;
    public long DexpertRowStride;
    public long DexpertStride;
    public float* Dgates;
    public float* Dresidual;
    public int ExpertDtype;
    public float ActivationSlope;
    public int AccumulateResidual;
    public int Reserved;
    public void* Workspace;
    public long WorkspaceBytes;
}
