using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary><c>cudamoe_graph_aggregate_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GraphAggregateArgs
{
    public uint StructSize;
    public int Mean;
    public int Accumulate;
    public int Reserved;
    public long Rows;
    public long Columns;
    public long Edges;
    public long Width;
    public long* Offsets;
    public int* Neighbours;
    public float* Weights;
    public float* X;
    public long XRowStride;
    public float* Y;
    public long YRowStride;
}

/// <summary><c>cudamoe_graph_edge_gradient_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GraphEdgeGradientArgs
{
    public uint StructSize;
    public int Mean;
    public int Accumulate;
    public int Reserved;
    public long Rows;
    public long Columns;
    public long Edges;
    public long Width;
    public long* Offsets;
    public int* Neighbours;
    public float* X;
    public long XRowStride;
    public float* Dy;
    public long DyRowStride;
    public float* Dweights;
}

/// <summary><c>cudamoe_graph_transpose_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GraphTransposeArgs
{
    public uint StructSize;
    public int Mean;
    public long Rows;
    public long Columns;
    public long Edges;
    public long* Offsets;
    public int* Neighbours;
    public float* Weights;
    public long* TransposedOffsets;
    public int* TransposedNeighbours;
    public float* TransposedWeights;
    public void* Workspace;
    public long WorkspaceBytes;
}
