using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary><c>cudamoe_loss_task</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct LossTask
{
    public float* Logits;
    public long LogitsRowStride;
    public float* Labels;
    public long LabelsStride;
    public float* Weights;
    public long WeightsStride;
    public float* Dlogits;
    public long DlogitsRowStride;
    public int Kind;
    public int Classes;
    public float Scale;
    public int Reserved;
}

/// <summary><c>cudamoe_loss_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct LossArgs
{
    public uint StructSize;
    public int TaskCount;
    public long Rows;
    public LossTask* Tasks;
    public double* Losses;
    public double* WeightSums;
    public void* Workspace;
    public long WorkspaceBytes;
}
