using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary><c>cudamoe_gate_forward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GateForwardArgs
{
    public uint StructSize;
    public int Gates;
    public int Experts;
    public int TopK;
    public int ScoreMode;
    public int Renormalise;
    public long Rows;
    public long KIn;
    public void* X;
    public long XRowStride;
    public void* Packed;
    public float* Bias;
    public float* SelectionBias;
    public float* Logits;
    public float* Probabilities;
    public int* Chosen;
    public float* Weights;
    public long* ExpertCounts;
    public double* ProbabilitySums;
    public double* ZSums;
    public ulong Seed;
    public long Step;
    public long RowOffset;
    public void* Workspace;
    public long WorkspaceBytes;
    public StepNumbers* Numbers;
}

/// <summary><c>cudamoe_gate_backward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GateBackwardArgs
{
    public uint StructSize;
    public int Gates;
    public int Experts;
    public int TopK;
    public int ScoreMode;
    public int Renormalise;
    public long Rows;
    public float* Logits;
    public float* Probabilities;
    public int* Chosen;
    public float* Weights;
    public float* Dprobabilities;
    public float* Dweights;
    public long* ExpertCounts;
    public float BalanceCoefficient;
    public float ZCoefficient;
    public float* Dlogits;
    public long DlogitsRowStride;
    public ulong Seed;
    public long Step;
    public long RowOffset;
    public StepNumbers* Numbers;
}

/// <summary><c>cudamoe_routing_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct RoutingArgs
{
    public uint StructSize;
    public int Experts;
    public long Samples;
    public int Choices;
    public int Order;
    public long Capacity;
    public int* Chosen;
    public float* Weights;
    public long* Offsets;
    public int* SampleOfSlot;
    public int* PairOfSlot;
    public int* SlotOfPair;
    public long* Dropped;
    public void* Workspace;
    public long WorkspaceBytes;
}

/// <summary><c>cudamoe_group_capacity_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GroupCapacityArgs
{
    public uint StructSize;
    public int Experts;
    public long Samples;
    public int Choices;
    public int Group;
    public long Capacity;
    public int* Chosen;
    public int* SlotOfPair;
    public int* DroppedPairs;
    public long* Dropped;
}
