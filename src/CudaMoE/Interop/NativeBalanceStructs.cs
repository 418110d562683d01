using System.Runtime.InteropServices;

namespace CudaMoE.Interop;

/// <summary><c>cudamoe_balance_gram_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct BalanceGramArgs
{
    public uint StructSize;
    public int Tasks;
    public long Rows;
    public long Width;
    public float* Gradients;
    public long TaskStride;
    public long RowStride;
    public double* Gram;
    public void* Workspace;
    public long WorkspaceBytes;
}

/// <summary><c>cudamoe_balance_factored_gram_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct BalanceFactoredGramArgs
{
    public uint StructSize;
    public int Tasks;
    public long* Starts;
    public float* GradientProducts;
    public long GradientProductsRowStride;
    public float* WeightProducts;
    public long WeightProductsRowStride;
    public double* Gram;
}

/// <summary><c>cudamoe_balance_combine_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct BalanceCombineArgs
{
    public uint StructSize;
    public int Tasks;
    public long Rows;
    public long Width;
    public float* Gradients;
    public long TaskStride;
    public long RowStride;
    public float* Weights;
    public float* Output;
    public long OutputRowStride;
    public int Accumulate;
    public int Reserved;
}

/// <summary><c>cudamoe_balance_columns_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct BalanceColumnsArgs
{
    public uint StructSize;
    public int Tasks;
    public long Rows;
    public long Width;
    public float* Gradients;
    public long TaskStride;
    public long RowStride;
    public float* Values;
    public long ValuesTaskStride;
    public long ValuesRowStride;
    public int Parts;
    public int Reserved;
    public double* Sums;
    public void* Workspace;
    public long WorkspaceBytes;
}

/// <summary><c>cudamoe_balance_scale_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct BalanceScaleArgs
{
    public uint StructSize;
    public int Tasks;
    public long Rows;
    public long Width;
    public float* Gradients;
    public long TaskStride;
    public long RowStride;
    public float* Factors;
}

/// <summary><c>cudamoe_balance_average_args</c> of cudamoe.h.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct BalanceAverageArgs
{
    public uint StructSize;
    public float Rate;
    public long Count;
    public float* Values;
    public float* Averages;
}
