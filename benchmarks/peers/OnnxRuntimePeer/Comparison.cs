using System.Diagnostics;
using System.Runtime.InteropServices;
using CudaMoE.Benchmarking;
using CudaMoE.Data;
using CudaMoE.Models;
using CudaMoE.Tensors;

namespace OnnxRuntimePeer;

/// <summary>Both engines with the same parameters: checks that they agree on the same inputs, then times them in turns.</summary>
internal sealed unsafe class Comparison : IDisposable
{
    // Logits of fresh parameters are below 1, and sums of some hundred f32 products differ by a few units in the last place.
    private const double Tolerance = 1e-6;
    private const int SmallBatches = 64;
    private const int LargeBatches = 8;
    private const int LargestSmallBatch = 512;

    // After a run the threads of both engines wait actively for a while; a turn starts when the other's have gone to sleep.
    private const int PauseMilliseconds = 50;
    private readonly BenchmarkConfig _config;
    private readonly BatchLayout _layout;
    private readonly Device _device;
    private readonly MultiTaskModel _model;
    private readonly OnnxSession _session;

    public Comparison(BenchmarkConfig config, string library, int threads, int maxRows)
    {
        _config = config;
        _layout = config.Layout();
        _device = Device.Open($"cpu:threads={threads}");
        _model = new(_device, config.Describe(default, new()), _layout, [.. Enumerable.Repeat(1, config.Tasks)], maxRows, training: false);
        string file = Path.Combine(Path.GetTempPath(), $"{config.Name}-{Environment.ProcessId}.onnx");
        try
        {
            ModelExport.Write(config, _model, file);
            _session = new(library, file, threads);
        }
        finally
        {
            File.Delete(file);
        }
    }

    /// <summary>Times both at a batch size, in rounds of <paramref name="seconds"/> each: the engine's result, then the peer's.</summary>
    public PeerResult[] Run(int rows, int rounds, double seconds)
    {
        int count = rows <= LargestSmallBatch ? SmallBatches : LargeBatches;
        Batch[] batches = [.. Enumerable.Range(0, count).Select(i => BenchmarkData.Create(_config, _layout, rows, i))];
        float* logits = (float*)NativeMemory.AlignedAlloc((nuint)(rows * _config.Tasks * sizeof(float)), 64);
        nint output = _session.Bind(logits, rows, _config.Tasks);
        List<nint> ids = [], dense = [], memory = [];
        foreach (Batch batch in batches)
        {
            int* joined = JoinedIds(batch);
            memory.Add((nint)joined);
            ids.Add(_session.Bind(joined, rows, _config.Sparse.Features));
            dense.Add(_session.Bind(batch.DensePointer, rows, _config.Dense));
        }

        try
        {
            double difference = 0;
            for (int i = 0; i < count; i++)
            {
                _model.Forward(batches[i]);
                _session.Run(ids[i], dense[i], output);
                difference = Math.Max(difference, Difference(logits, rows));
            }

            if (!(difference <= Tolerance))
                throw new InvalidOperationException($"{_config.Name}, batch {rows}: the logits differ by {difference:g3}; the limit is {Tolerance:g3}");
            List<double> ours = [], theirs = [];
            for (int round = 0; round < rounds; round++)
            {
                Time(i => _model.Forward(batches[i % count]), seconds, ours);
                Time(i => _session.Run(ids[i % count], dense[i % count], output), seconds, theirs);
            }

            return [Result("CudaMoE", rows, ours, difference), Result($"ONNX Runtime {_session.Version}", rows, theirs, difference)];
        }
        finally
        {
            foreach (nint tensor in ids.Concat(dense).Append(output))
                _session.Release(tensor);
            foreach (nint block in memory.Append((nint)logits))
                NativeMemory.AlignedFree((void*)block);
            foreach (Batch batch in batches)
                batch.Dispose();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _session.Dispose();
        _model.Dispose();
        _device.Dispose();
    }

    /// <summary>[rows, features] rows of the joined table.</summary>
    private int* JoinedIds(Batch batch)
    {
        int features = _config.Sparse.Features;
        int* joined = (int*)NativeMemory.AlignedAlloc((nuint)((long)batch.Rows * features * sizeof(int)), 64);
        for (int row = 0; row < batch.Rows; row++)
        {
            for (int f = 0; f < features; f++)
                joined[((long)row * features) + f] = batch.IdsPointer(f)[row] + (f * _config.Sparse.Rows);
        }

        return joined;
    }

    private double Difference(float* logits, int rows)
    {
        double difference = 0;
        for (int task = 0; task < _config.Tasks; task++)
        {
            Tensor expected = _model.Logits(task);
            for (long row = 0; row < rows; row++)
            {
                double distance = Math.Abs(((float*)expected.Pointer)[row * expected.RowStride] - logits[(row * _config.Tasks) + task]);
                difference = distance <= difference ? difference : distance;
            }
        }

        return difference;
    }

    private static void Time(Action<int> run, double seconds, List<double> times)
    {
        Thread.Sleep(PauseMilliseconds);
        int done = 0;
        long began = Stopwatch.GetTimestamp();
        while (done < 3 || Stopwatch.GetElapsedTime(began).TotalSeconds < seconds / 4)
            run(done++);
        began = Stopwatch.GetTimestamp();
        for (int runs = 0; runs < 3 || Stopwatch.GetElapsedTime(began).TotalSeconds < seconds; runs++)
        {
            long started = Stopwatch.GetTimestamp();
            run(done++);
            times.Add(Stopwatch.GetElapsedTime(started).TotalSeconds);
        }
    }

    private PeerResult Result(string engine, int rows, List<double> times, double difference)
    {
        times.Sort();
        double median = times[times.Count / 2];
        return new()
        {
            Engine = engine,
            Name = _config.Name,
            Batch = rows,
            Threads = _device.Info.Threads,
            Runs = times.Count,
            MinimumMicroseconds = times[0] * 1e6,
            MedianMicroseconds = median * 1e6,
            P99Microseconds = times[Math.Min(times.Count - 1, (int)(times.Count * 0.99))] * 1e6,
            SamplesPerSecond = rows / median,
            Gflops = _config.ForwardFlops(rows) / median / 1e9,
            LargestDifference = difference,
        };
    }
}
