using BenchmarkDotNet.Attributes;
using CudaMoE.Interop;
using CudaMoE.Tensors;

namespace CudaMoE.Benchmarks;

/// <summary>What a call into the native library costs: the transition alone, and an operation that checks its arguments and finds no rows to do.</summary>
[MemoryDiagnoser]
public unsafe class InteropBenchmarks
{
    private const int Calls = 1000;
    private Device _device = null!;
    private DeviceStream _stream = null!;
    private DeviceBuffer _buffer = null!;

    [GlobalSetup]
    public void Setup()
    {
        _device = Device.Open("cpu:threads=1");
        _stream = _device.CreateStream();
        _buffer = _device.Allocate(4096);
    }

    [Benchmark(OperationsPerInvoke = Calls)]
    public int Transition()
    {
        int sum = 0;
        for (int i = 0; i < Calls; i++)
            sum += NativeMethods.AbiVersion();
        return sum;
    }

    [Benchmark(OperationsPerInvoke = Calls)]
    public void EmptyOperation()
    {
        BalanceCombineArgs args = new()
        {
            StructSize = (uint)sizeof(BalanceCombineArgs),
            Tasks = 1,
            Rows = 0,
            Width = 16,
            Gradients = (float*)_buffer.Pointer,
            RowStride = 16,
            Weights = (float*)_buffer.Pointer,
            Output = (float*)_buffer.Pointer,
            OutputRowStride = 16,
        };
        for (int i = 0; i < Calls; i++)
            NativeStatus.Check(NativeMethods.BalanceCombine(_stream.Native, &args));
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        _buffer.Dispose();
        _stream.Dispose();
        _device.Dispose();
    }
}
