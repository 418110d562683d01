using System.CommandLine;
using System.Text.Json;
using CudaMoE.Benchmarking;
using OnnxRuntimePeer;

Option<string> library = new("--library") { Required = true, HelpName = "FILE", Description = "libonnxruntime, the CPU build" };
Option<string> configuration = new("--config") { Required = true, HelpName = "FILE", Description = "A file of benchmarks/configs with experts" };
Option<int[]> batches = new("--batch")
{
    HelpName = "ROWS",
    Description = "Samples of a batch; several are timed one after the other",
    AllowMultipleArgumentsPerToken = true,
    DefaultValueFactory = _ => [1, 16, 256, 4096],
};
Option<int> threads = new("--threads") { Description = "Threads of either engine", DefaultValueFactory = _ => 2 };
Option<int> rounds = new("--rounds") { Description = "Turns of either engine", DefaultValueFactory = _ => 5 };
Option<double> seconds = new("--seconds") { Description = "Seconds of a turn", DefaultValueFactory = _ => 0.2 };
RootCommand command = new("Times the inference of a reference configuration in CudaMoE and in ONNX Runtime, in turns, and prints a JSON line for each.")
{
    library, configuration, batches, threads, rounds, seconds,
};
command.SetAction(arguments =>
{
    int[] sizes = arguments.GetRequiredValue(batches);
    using Comparison comparison = new(
        BenchmarkConfig.Load(arguments.GetRequiredValue(configuration)), arguments.GetRequiredValue(library), arguments.GetValue(threads), sizes.Max());
    foreach (int rows in sizes)
    {
        foreach (PeerResult result in comparison.Run(rows, arguments.GetValue(rounds), arguments.GetValue(seconds)))
            Console.WriteLine(JsonSerializer.Serialize(result, PeerJson.Default.PeerResult));
    }
});
return command.Parse(args).Invoke();
