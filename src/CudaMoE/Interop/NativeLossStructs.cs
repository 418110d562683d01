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

/// <summary><c>cudamoe_joint_logits_forward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct JointLogitsForwardArgs
{
    public uint StructSize;
    public int Reserved;
    public long Rows;
    public float* A;
    public long AStride;
    public float* B;
    public long BStride;
    public float* Joint;
    public long JointStride;
}

/// <summary><c>cudamoe_joint_logits_backward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct JointLogitsBackwardArgs
{
    public uint StructSize;
    public int AccumulateA;
    public int AccumulateB;
    public int Reserved;
    public long Rows;
    public float* A;
    public long AStride;
    public float* B;
    public long BStride;
    public float* Djoint;
    public long DjointStride;
    public float* Da;
    public long DaStride;
    public float* Db;
    public long DbStride;
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
