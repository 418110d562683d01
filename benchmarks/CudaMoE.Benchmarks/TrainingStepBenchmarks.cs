using BenchmarkDotNet.Attributes;
using CudaMoE.Benchmarking;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Training;

namespace CudaMoE.Benchmarks;

/// <summary>Time and managed memory of a whole step and of a forward pass of the reference MMoE.</summary>
[MemoryDiagnoser]
public class TrainingStepBenchmarks
{
    private Device _device = null!;
    private MultiTaskModel _model = null!;
    private TrainingStep _step = null!;
    private Batch _batch = null!;
    private long _done;

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
        _device = Device.Open("cpu");
        _model = new(_device, config.Describe(Precision.F32, new() { Type = Balancer }), config.Layout(), [1, 1, 1], Rows, training: true);
        _step = new(_model, 1_000_000);
        _batch = BenchmarkData.Create(config, config.Layout(), Rows, 0);
    }

    [Benchmark]
    public void Step() => _step.Run(_batch, ++_done);

    [Benchmark]
    public void Forward() => _model.Forward(_batch);

    [GlobalCleanup]
    public void Cleanup()
    {
        _batch.Dispose();
        _model.Dispose();
        _device.Dispose();
    }
}
