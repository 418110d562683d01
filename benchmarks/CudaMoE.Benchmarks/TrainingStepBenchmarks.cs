using BenchmarkDotNet.Attributes;
using CudaMoE.Benchmarking;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Training;

namespace CudaMoE.Benchmarks;

/// <summary>
/// Time and managed memory of a whole step and of a forward pass of the reference MMoE, on the CPU and on a GPU where one is usable. Steps are queued a few
/// at a time and waited for; a forward pass is waited for by itself.
/// </summary>
[MemoryDiagnoser]
public class TrainingStepBenchmarks
{
    private const int Steps = 8;
    private Device _device = null!;
    private MultiTaskModel _model = null!;
    private TrainingStep _step = null!;
    private Batch _batch = null!;
    private long _done;

    /// <summary>Names of the devices.</summary>
    public static IEnumerable<string> Devices { get; } = Measurable();

    /// <summary>Where the model is.</summary>
    [ParamsSource(nameof(Devices))]
    public string On { get; set; } = "cpu";

    /// <summary>Samples of a batch.</summary>
    [Params(16, 4096)]
    public int Rows { get; set; }

    /// <summary>How task gradients are balanced.</summary>
    [Params(BalancerType.Equal, BalancerType.MultiBalance)]
    public BalancerType Balancer { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        BenchmarkConfig config = BenchmarkConfig.Load(Configurations.Find("mmoe.json"));
        _device = Device.Open(On);
        _model = new(_device, config.Describe(Precision.F32, new() { Type = Balancer }), config.Layout(), [1, 1, 1], Rows, training: true);
        _step = new(_model, 1_000_000);
        _batch = BenchmarkData.Create(config, config.Layout(), Rows, 0);
    }

    [Benchmark(OperationsPerInvoke = Steps)]
    public void Step()
    {
        for (int i = 0; i < Steps; i++)
            _step.Run(_batch, ++_done);
        _step.Finish();
    }

    [Benchmark]
    public void Forward()
    {
        _model.Forward(_batch);
        _model.Stream.Synchronize();
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        _batch.Dispose();
        _model.Dispose();
        _device.Dispose();
    }

    private static string[] Measurable()
    {
        try
        {
            using Device gpu = Device.Open("cuda");
            return ["cpu", "cuda"];
        }
        catch (DeviceException)
        {
            return ["cpu"];
        }
    }
}
