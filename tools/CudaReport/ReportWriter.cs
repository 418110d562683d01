using System.Globalization;
using System.Text;

namespace CudaMoE.CudaReport;

/// <summary>Writes docs/cuda-report.md.</summary>
internal static class ReportWriter
{
    public static string Write(
        IReadOnlyList<KernelFigures> figures, IReadOnlyList<Costs.Cost> costs, IReadOnlyDictionary<string, string> reasons, string toolkit)
    {
        var text = new StringBuilder();
        string[] architectures = [.. figures.Select(f => f.Architecture).Distinct().Order(StringComparer.Ordinal)];
        text.Append(CultureInfo.InvariantCulture, $"""
            # What nvcc makes of the kernels, and what they move

            Written by `./build.sh cuda-report --update` with CUDA {toolkit}. `./build.sh cuda-report` assembles the kernels, counts again and fails where a kernel
            is not listed or a figure is worse than in `kernels/report.tsv`. Nothing here was measured on a GPU.

            ## Kernels

            Columns with several numbers are for {string.Join(", ", architectures)}. All kernels: no stack, no spilled registers, no access of local memory, no atomic on
            floating-point numbers, and launched by a test on the executor; a kernel that breaks one of these fails whatever is listed. Blocks and dynamic shared memory are
            those of the launches that the tests make; of several the one that leaves the fewest warps resident. *Warps* are those that a multiprocessor holds, by registers,
            shared memory and threads. Loads and stores of global memory are counted as instructions, copies to shared memory (`cp.async`) as loads, for the first
            architecture: *16 B* and narrower ones, most of which are for rows that are not aligned and for ends of rows. *Tensor* are tensor-core instructions within loops.

            | kernel | threads | registers | shared bytes | warps | loads 16 B / narrower | stores 16 B / narrower | tensor |
            | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |

            """);
        foreach (IGrouping<(string Source, string Kernel), KernelFigures> group in figures.GroupBy(f => (f.Source, f.Kernel)))
        {
            KernelFigures first = group.First();
            Instructions code = first.Code;
            text.Append(CultureInfo.InvariantCulture,
                $"| {group.Key.Source}: `{KernelNames.WithoutParameters(group.Key.Kernel)}` | {first.Threads} | {All(group, f => f.Registers)} | {All(group, f => f.SharedBytes)} | {All(group, f => f.ResidentWarps)} | {code.WideLoads} / {code.NarrowLoads} | {code.WideStores} / {code.NarrowStores} | {All(group, f => f.Code.TensorCoreInLoops)} |\n");
        }
        WriteCosts(text, costs, reasons);
        return text.ToString();
    }

    private static void WriteCosts(StringBuilder text, IReadOnlyList<Costs.Cost> costs, IReadOnlyDictionary<string, string> reasons)
    {
        if (costs.Count == 0)
            return;
        text.Append(CultureInfo.InvariantCulture, $"""

            ## Bytes and operations

            What the launches of an operation move at a batch of {costs[0].Batch:N0}, counted by the executor while it runs the kernels at two smaller batches, in sectors of 32 bytes.
            *Memory*: a sector that a launch reads counts once, one that it writes once, work space included; from one launch to the next nothing stays in the cache.
            *Cache*: the same for each block, so rows that several blocks read count for each of them: what goes between the second-level cache and the multiprocessors.
            *Floor*: each input read once, each output written once. Operations are multiply-adds (two each), on tensor cores those of a tf32 product three times over.
            The aim is a ratio of at most {Costs.Aim:F2}. `kernels/costs.tsv` has what is accepted; more bytes or launches fail.

            | operation | launches | floor MB | memory MB | ratio | cache MB | floor GFLOP | GFLOP | floor on an H100, us |
            | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |

            """);
        const double h100BytesOfMicrosecond = 3.35e6;
        foreach (Costs.Cost cost in costs)
        {
            string operations = cost.Operations > 0 ? (cost.Operations * 1e-9).ToString("F2", CultureInfo.InvariantCulture) : "";
            string floorOperations = cost.FloorOperations > 0 ? (cost.FloorOperations * 1e-9).ToString("F2", CultureInfo.InvariantCulture) : "";
            text.Append(CultureInfo.InvariantCulture,
                $"| {cost.Operation} | {cost.Launches} | {cost.FloorBytes * 1e-6:F1} | {cost.MemoryBytes * 1e-6:F1} | {cost.Ratio:F2} | {cost.CacheBytes * 1e-6:F1} | {floorOperations} | {operations} | {cost.FloorBytes / h100BytesOfMicrosecond:F1} |\n");
        }
        text.Append("\nAbove the aim:\n\n");
        foreach (Costs.Cost cost in costs.Where(c => c.Ratio > Costs.Aim))
            text.Append(CultureInfo.InvariantCulture, $"- {cost.Operation}: {reasons.GetValueOrDefault(cost.Operation, "")}\n");
        text.Append("\nThe last column is the floor's bytes at the 3.35 TB/s that the data sheet states; it is arithmetic, not a measurement.\n");
    }

    // One number where all architectures agree.
    private static string All(IEnumerable<KernelFigures> figures, Func<KernelFigures, int> value)
    {
        int[] values = [.. figures.Select(value)];
        return string.Join(" ", values.Distinct().Count() == 1 ? values[..1] : values);
    }
}
