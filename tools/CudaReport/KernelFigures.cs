namespace CudaMoE.CudaReport;

/// <summary>What nvcc made of one kernel for one architecture, as cuobjdump tells it.</summary>
internal sealed record KernelFigures
{
    public required string Kernel { get; init; }

    /// <summary>The .cu file, from the folder of the kernels on.</summary>
    public required string Source { get; init; }

    /// <summary>"sm_80", "sm_90a".</summary>
    public required string Architecture { get; init; }

    public int Registers { get; init; }
    public int StackBytes { get; init; }
    public int LocalBytes { get; init; }
    public int StaticSharedBytes { get; init; }

    /// <summary>Of the launch that leaves the fewest warps on a multiprocessor.</summary>
    public int DynamicSharedBytes { get; init; }

    /// <summary>Of a block in that launch; 0 when no launch of the kernel was seen.</summary>
    public int Threads { get; init; }

    /// <summary>Warps that a multiprocessor holds, of those that it could; 0 when a block does not fit.</summary>
    public int ResidentWarps { get; init; }

    public Instructions Code { get; init; } = new();

    public int SharedBytes => StaticSharedBytes + DynamicSharedBytes;
}

/// <summary>Counts of a kernel's machine instructions.</summary>
internal sealed record Instructions
{
    public int WideLoads { get; init; }
    public int NarrowLoads { get; init; }
    public int WideStores { get; init; }
    public int NarrowStores { get; init; }

    /// <summary>Copies of tensors by TMA (UTMALDG, UTMASTG).</summary>
    public int BulkCopies { get; init; }

    /// <summary>HMMA and HGMMA.</summary>
    public int TensorCore { get; init; }

    /// <summary>Those of them that lie in a loop.</summary>
    public int TensorCoreInLoops { get; init; }

    /// <summary>Loads and stores of local memory: spilled registers and arrays that do not fit into registers.</summary>
    public int LocalAccesses { get; init; }

    public int FloatAtomics { get; init; }
}
