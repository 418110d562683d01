using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary><c>cudamoe_embedding_table</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct EmbeddingTable
{
    public void* Weights;
    public long Rows;
    public long RowStride;
    public float* State1;
    public float* State2;
    public int Dim;
    public int Dtype;
}

/// <summary><c>cudamoe_embedding_feature</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct EmbeddingFeature
{
    public int* Ids;
    public int* Offsets;
    public int BagSize;
    public int Table;
    public int Pooling;
    public int Reserved;
    public long Column;
    public long Lookups;
}

/// <summary><c>cudamoe_embedding_cache</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct EmbeddingCache
{
    public void* Memory;
    public long Bytes;
    public long Rows;
    public int Optimizer;
    public int Reserved;
}

/// <summary><c>cudamoe_embedding_cache_counters</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct EmbeddingCacheCounters
{
    public long Batches;
    public long Hits;
    public long Misses;
    public long Bypasses;
    public long Evictions;
    public long BytesIn;
    public long BytesOut;
    public long Reserved;
}

/// <summary><c>cudamoe_embedding_cache_flush_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct EmbeddingCacheFlushArgs
{
    public uint StructSize;
    public int TableCount;
    public EmbeddingTable* Tables;
    public EmbeddingCache* Caches;
}

/// <summary><c>cudamoe_embedding_cache_prepare_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct EmbeddingCachePrepareArgs
{
    public uint StructSize;
    public int TableCount;
    public int FeatureCount;
    public int Bounds;
    public long Batch;
    public EmbeddingTable* Tables;
    public EmbeddingFeature* Features;
    public EmbeddingCache* Caches;
    public void* Workspace;
    public long WorkspaceBytes;
}

/// <summary><c>cudamoe_embedding_forward_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct EmbeddingForwardArgs
{
    public uint StructSize;
    public int TableCount;
    public int FeatureCount;
    public int OutputDtype;
    public long Batch;
    public EmbeddingTable* Tables;
    public EmbeddingFeature* Features;
    public void* Output;
    public long OutputRowStride;
    public int Bounds;
    public int Reserved;
    public EmbeddingCache* Caches;
}

/// <summary><c>cudamoe_embedding_update_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct EmbeddingUpdateArgs
{
    public uint StructSize;
    public int TableCount;
    public int FeatureCount;
    public int Optimizer;
    public long Batch;
    public EmbeddingTable* Tables;
    public EmbeddingFeature* Features;
    public float* Gradient;
    public long GradientRowStride;
    public float LearningRate;
    public float Epsilon;
    public float Beta1;
    public float Beta2;
    public float WeightDecay;
    public float GradientScale;
    public long Step;
    public ulong Seed;
    public int Bounds;
    public int Reserved;
    public void* Workspace;
    public long WorkspaceBytes;
    public double* Norm;
    public EmbeddingCache* Caches;
    public StepNumbers* Numbers;
}

/// <summary><c>cudamoe_embedding_gradient_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct EmbeddingGradientArgs
{
    public uint StructSize;
    public int TableCount;
    public int FeatureCount;
    public int Bounds;
    public long Batch;
    public EmbeddingTable* Tables;
    public EmbeddingFeature* Features;
    public float* Gradient;
    public long GradientRowStride;
    public int* UniqueRows;
    public float* Values;
    public long ValuesRowStride;
    public long* Counts;
    public void* Workspace;
    public long WorkspaceBytes;
}
