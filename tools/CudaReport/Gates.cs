namespace CudaMoE.CudaReport;

/// <summary>What every kernel must keep, whatever was expected of it.</summary>
internal static class Gates
{
    public static IEnumerable<string> Broken(KernelFigures figures)
    {
        string Name(string what) => $"{figures.Source}: {figures.Kernel} for {figures.Architecture} {what}";
        if (figures.StackBytes > 0)
            yield return Name($"has a stack of {figures.StackBytes} bytes; a kernel has none");
        if (figures.LocalBytes > 0 || figures.Code.LocalAccesses > 0)
            yield return Name($"uses local memory ({figures.LocalBytes} bytes, {figures.Code.LocalAccesses} accesses): registers are spilled, or an array is indexed by a variable");
        if (figures.Code.FloatAtomics > 0)
            yield return Name($"has {figures.Code.FloatAtomics} atomics on floating-point numbers; their result depends on the order of threads");
        if (figures.Code.TensorCore > 0 && figures.Code.TensorCoreInLoops == 0)
            yield return Name("has its tensor-core instructions outside of every loop");
        if (figures.Threads == 0)
            yield return Name("is launched by no test on the executor");
        else if (figures.ResidentWarps == 0)
            yield return Name($"does not fit: {figures.Registers} registers, {figures.SharedBytes} bytes of shared memory, {figures.Threads} threads");
    }
}
