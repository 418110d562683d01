using System.Globalization;
using CudaMoE.Interop;
using CudaMoE.ManagedCuda;
using CudaMoE.ManagedCuda.Benchmarks;
using CudaMoE.Tensors;
using ManagedCuda;

// Products of experts in f32 beside cuBLAS, called through managedCuda on the same stream and memory: a call for each expert, and one batched
// call. Markdown on standard output. The argument names the device, "cuda" by default.
CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
using Device device = Device.Open(args.Length > 0 ? args[0] : "cuda");
using PrimaryContext context = device.OpenPrimaryContext();
Console.WriteLine($"{device.Info.Name}; medians of {ExpertProducts.Runs} runs, microseconds");
Console.WriteLine();
Console.WriteLine("| experts x rows, k -> n | CudaMoE | cuBLAS, a call an expert | cuBLAS, batched | largest difference |");
Console.WriteLine("| --- | ---: | ---: | ---: | ---: |");
foreach ((int experts, int rows, int k, int n) in ((int, int, int, int)[])[(8, 512, 256, 128), (16, 4096, 256, 128), (16, 4096, 128, 64), (1, 65536, 256, 2048)])
{
    using ExpertProducts products = new(device, experts, rows, k, n);
    double own = products.Time(products.RunOwn);
    float[] expected = products.ReadOutput();
    double loop = products.Time(products.RunBlasForEachExpert);
    double difference = products.LargestDifference(expected);
    double batched = products.Time(products.RunBlasBatched);
    difference = Math.Max(difference, products.LargestDifference(expected));
    Console.WriteLine($"| {experts} x {rows}, {k} -> {n} | {own:F1} | {loop:F1} | {batched:F1} | {difference:E1} |");
    if (difference > 1e-3)
        throw new InvalidOperationException($"results differ by {difference}; sums of {k} products of numbers below 1 may differ by 1e-3");
}
