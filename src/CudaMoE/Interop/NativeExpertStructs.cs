using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary><c>cudamoe_expert_forward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct ExpertForwardArgs
{
    public uint StructSize;
    public int Groups;
    public long Rows;
    public long N;
    public long Hidden;
    public long K;
    public long* Offsets;
    public int* Gather;
    public long XRows;
    public void* X;
    public long XRowStride;
    public long XGroupStride;
    public void* Packed1;
    public void* Packed2;
    public float* Bias1;
    public long Bias1GroupStride;
    public float* Bias2;
    public long Bias2GroupStride;
    public void* H;
    public long HRowStride;
    public long HGroupStride;
    public void* HPreactivation;
    public void* Y;
    public long YRowStride;
    public long YGroupStride;
    public int XDtype;
    public int PackedDtype;
    public int HDtype;
    public int YDtype;
    public int HiddenActivation;
    public int OutputActivation;
    public float ActivationSlope;
    public int Reserved;
    public void* Workspace;
    public long WorkspaceBytes;
}

/// <summary><c>cudamoe_expert_mix_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct ExpertMixArgs
{
    public uint StructSize;
    public int Experts;
    public int Tasks;
    public int Choices;
    public long Rows;
    public long N;
    public long Hidden;
    public long K;
    public void* X;
    public long XRowStride;
    public void* Packed1;
    public void* Packed2;
    public float* Bias1;
    public long Bias1GroupStride;
    public float* Bias2;
    public long Bias2GroupStride;
    public float* Gates;
    public float* Residual;
    public int* Chosen;
    public void* Y;
    public long YRowStride;
    public long YTaskStride;
    public int XDtype;
    public int PackedDtype;
    public int YDtype;
    public int HiddenActivation;
    public int OutputActivation;
    public float ActivationSlope;
    public void* Workspace;
    public long WorkspaceBytes;
}
