using System.Diagnostics;
using System.Text.Json.Serialization;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Training;

namespace CudaMoE.Benchmarking;

/// <summary>What is timed.</summary>
public enum BenchmarkMode
{
    /// <summary>Whole training steps: look-up, forward, loss, backward, updates.</summary>
    [JsonStringEnumMemberName("training")]
    Training,

    /// <summary>Forward passes, look-ups included.</summary>
    [JsonStringEnumMemberName("inference")]
    Inference,
}

/// <summary>Options of a model benchmark.</summary>
public sealed record ModelBenchmarkOptions
{
    /// <summary>The device.</summary>
    public string Device { get; init; } = "cpu";

    /// <summary>What is timed.</summary>
    public BenchmarkMode Mode { get; init; } = BenchmarkMode.Training;

    /// <summary>Whether forward passes run from captures (<see cref="MultiTaskModel.CaptureForward"/>); only in inference.</summary>
    public bool Captured { get; init; }

    /// <summary>Samples of a batch; null = the configuration's.</summary>
    public int? Batch { get; init; }

    /// <summary>Type of the products' operands.</summary>
    public Precision Precision { get; init; } = Precision.F32;

    /// <summary>Balancer of the training step.</summary>
    public BalancerType Balancer { get; init; } = BalancerType.Equal;

    /// <summary>Seconds of timed runs, at least.</summary>
    public double Seconds { get; init; } = 3;

    /// <summary>Timed runs, at least.</summary>
    public int MinimumRuns { get; init; } = 9;
}

/// <summary>One line of results.</summary>
public sealed record ModelBenchmarkResult
{
    /// <summary>The configuration.</summary>
    public required string Name { get; init; }

    /// <summary>What was timed.</summary>
    public required BenchmarkMode Mode { get; init; }

    /// <summary>Samples of a batch.</summary>
    public required int Batch { get; init; }

    /// <summary>Worker threads.</summary>
    public required int Threads { get; init; }

    /// <summary>Instruction set.</summary>
    public required string Level { get; init; }

    /// <summary>Type of the products' operands: f32 or bf16.</summary>
    public required string Precision { get; init; }

    /// <summary>The balancer; null for inference.</summary>
    public string? Balancer { get; init; }

    /// <summary>Timed runs; of training on a device that the host queues for, groups of eight runs.</summary>
    public required int Runs { get; init; }

    /// <summary>Shortest run, microseconds.</summary>
    public required double MinimumMicroseconds { get; init; }

    /// <summary>Median run, microseconds.</summary>
    public required double MedianMicroseconds { get; init; }

    /// <summary>99th percentile, microseconds.</summary>
    public required double P99Microseconds { get; init; }

    /// <summary>Samples a second at the median.</summary>
    public required double SamplesPerSecond { get; init; }

    /// <summary>Arithmetic of the products at the median, GFLOP/s (training = 3 x forward).</summary>
    public required double Gflops { get; init; }

    /// <summary>f32 FMA peak of these threads, measured before and after, GFLOP/s.</summary>
    public required double FmaPeakGflops { get; init; }

    /// <summary>Their ratio.</summary>
    public required double OfFmaPeak { get; init; }

    /// <summary>Managed bytes allocated a run.</summary>
    public required double ManagedBytes { get; init; }
}

/// <summary>Times a reference configuration.</summary>
public static class ModelBenchmark
{
    private const int TrainingBatches = 8;
    private const int InferenceBatches = 64;
    private const int LargestSmallBatch = 512;
    private const int RunsOfGroup = 8;

    /// <summary>Runs it.</summary>
    public static ModelBenchmarkResult Run(BenchmarkConfig config, ModelBenchmarkOptions options)
    {
        using Device device = Device.Open(options.Device);
        bool training = options.Mode == BenchmarkMode.Training;
        int rows = options.Batch ?? config.Batch;
        BatchLayout layout = config.Layout();
        ModelDescription description = config.Describe(options.Precision, new() { Type = options.Balancer });
        int outputs = Math.Max(config.Tasks, 1);
        using MultiTaskModel model = new(device, description, layout, [.. Enumerable.Repeat(1, outputs)], rows, training);
        int count = !training && rows <= LargestSmallBatch ? InferenceBatches : TrainingBatches;
        Batch[] batches = [.. Enumerable.Range(0, count).Select(i => BenchmarkData.Create(config, layout, rows, i))];
        List<ForwardCapture> captures = [];
        try
        {
            if (training && config.Experts == null)
                FillGradient(model, rows);
            double peak = FmaPeak.Measure(device.Info.Threads);
            TrainingStep? step = training && config.Experts != null ? new(model, 1_000_000) : null;
            long done = 0;
            if (options.Captured)
                captures.AddRange(batches.Select(model.CaptureForward));
            Action run = (training, step) switch
            {
                (true, not null) => () => step.Run(batches[done++ % count], done),
                (true, null) => () => model.EmbeddingStep(batches[done++ % count], config.Optimizer.Sparse.Lr, done),
                (false, _) when config.Experts == null => () => model.EmbeddingForward(batches[done++ % count]),
                _ when options.Captured => () => captures[(int)(done++ % count)].Run(),
                _ => () => model.Forward(batches[done++ % count]),
            };
            int group = 1;
            if (!device.Info.HostAccessible)
            {
                // Training goes on queueing while the device works; who asks for a forward pass waits for its end.
                group = training ? RunsOfGroup : 1;
                Action queue = run;
                run = () =>
                {
                    for (int i = 0; i < group; i++)
                        queue();
                    model.Stream.Synchronize();
                };
            }

            (double[] times, double bytes) = Time(run, group, options);
            peak = Math.Max(peak, FmaPeak.Measure(device.Info.Threads));
            double median = times[times.Length / 2];
            double flops = config.ForwardFlops(rows) * (training ? 3 : 1);
            return new()
            {
                Name = config.Name,
                Mode = options.Mode,
                Batch = rows,
                Threads = device.Info.Threads,
                Level = device.Info.Level,
                Precision = options.Precision == Precision.F32 ? "f32" : "bf16",
                Balancer = step == null ? null : RunFacts.SnakeCase(options.Balancer),
                Runs = times.Length,
                MinimumMicroseconds = times[0] * 1e6,
                MedianMicroseconds = median * 1e6,
                P99Microseconds = times[Math.Min(times.Length - 1, (int)(times.Length * 0.99))] * 1e6,
                SamplesPerSecond = rows / median,
                Gflops = flops / median / 1e9,
                FmaPeakGflops = peak,
                OfFmaPeak = flops / median / 1e9 / peak,
                ManagedBytes = bytes,
            };
        }
        finally
        {
            foreach (ForwardCapture capture in captures)
                capture.Dispose();
            foreach (Batch batch in batches)
                batch.Dispose();
        }
    }

    private static void FillGradient(MultiTaskModel model, int rows)
    {
        if (model.FeatureGradients is not { } gradients)
            return;
        float[] values = new float[gradients.Columns];
        for (long row = 0; row < rows; row++)
        {
            for (int column = 0; column < values.Length; column++)
                values[column] = (float)(BenchmarkData.Uniform(3, (ulong)((row * values.Length) + column)) - 0.5) / rows;
            model.Stream.CopyToDevice<float>(values, gradients.Pointer + (nint)(row * gradients.RowStride * sizeof(float)));
        }
    }

    /// <summary>Seconds of a run in ascending order, as the mean of each group that <paramref name="run"/> runs, and the managed bytes a run.</summary>
    private static (double[] Times, double Bytes) Time(Action run, int group, ModelBenchmarkOptions options)
    {
        long warm = Stopwatch.GetTimestamp();
        int warmups = 0;
        while (warmups < 5 || Stopwatch.GetElapsedTime(warm).TotalSeconds < options.Seconds / 5)
        {
            run();
            warmups++;
        }

        double estimate = Stopwatch.GetElapsedTime(warm).TotalSeconds / warmups;
        double[] times = new double[Math.Max(options.MinimumRuns, (int)Math.Min(options.Seconds / estimate, 1_000_000))];
        long allocated = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < times.Length; i++)
        {
            long started = Stopwatch.GetTimestamp();
            run();
            times[i] = Stopwatch.GetElapsedTime(started).TotalSeconds / group;
        }

        double bytes = (double)(GC.GetAllocatedBytesForCurrentThread() - allocated) / times.Length / group;
        Array.Sort(times);
        return (times, bytes);
    }
}
