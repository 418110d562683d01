using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary><c>cudamoe_attention_forward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct AttentionForwardArgs
{
    public uint StructSize;
    public int Causal;
    public int SharedKeys;
    public int Heads;
    public int KeyHeads;
    public int HeadWidth;
    public float Scale;
    public int Reserved;
    public long Sequences;
    public long Queries;
    public long Keys;
    public float* Q;
    public long QRowStride;
    public float* K;
    public long KRowStride;
    public float* V;
    public long VRowStride;
    public int* KeyCounts;
    public float* KeyWeights;
    public long KeyWeightsRowStride;
    public float* Y;
    public long YRowStride;
    public float* LogSum;
    public void* Workspace;
    public long WorkspaceBytes;
}

/// <summary><c>cudamoe_attention_backward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct AttentionBackwardArgs
{
    public uint StructSize;
    public int Causal;
    public int SharedKeys;
    public int Heads;
    public int KeyHeads;
    public int HeadWidth;
    public float Scale;
    public int Reserved;
    public long Sequences;
    public long Queries;
    public long Keys;
    public float* Q;
    public long QRowStride;
    public float* K;
    public long KRowStride;
    public float* V;
    public long VRowStride;
    public int* KeyCounts;
    public float* KeyWeights;
    public long KeyWeightsRowStride;
    public float* Y;
    public long YRowStride;
    public float* LogSum;
    public float* Dy;
    public long DyRowStride;
    public float* Dq;
    public long DqRowStride;
    public float* Dk;
    public long DkRowStride;
    public float* Dv;
    public long DvRowStride;
    public void* Workspace;
    public long WorkspaceBytes;
}

/// <summary><c>cudamoe_rotary_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct RotaryArgs
{
    public uint StructSize;
    public int Heads;
    public int HeadWidth;
    public int RotaryWidth;
    public int Interleaved;
    public int Inverse;
    public float Base;
    public int Reserved;
    public long Rows;
    public long Positions;
    public long FirstPosition;
    public float* X;
    public long XRowStride;
    public void* Workspace;
    public long WorkspaceBytes;
}

/// <summary><c>cudamoe_sequence_maximum_forward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct SequenceMaximumForwardArgs
{
    public uint StructSize;
    public int Reserved;
    public long Sequences;
    public long Positions;
    public long Width;
    public float* X;
    public long XRowStride;
    public int* Counts;
    public float* Y;
    public long YRowStride;
    public int* Places;
}

/// <summary><c>cudamoe_sequence_maximum_backward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct SequenceMaximumBackwardArgs
{
    public uint StructSize;
    public int Reserved;
    public long Sequences;
    public long Positions;
    public long Width;
    public int* Places;
    public float* Dy;
    public long DyRowStride;
    public float* Dx;
    public long DxRowStride;
}
