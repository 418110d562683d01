using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace CudaMoE.Benchmarking;

/// <summary>The rate of f32 fused multiply-adds that the processor reaches now, from registers alone: the ceiling of every product.</summary>
public static class FmaPeak
{
    private const int Rounds = 200_000;

    /// <summary>GFLOP/s of <paramref name="threads"/> threads at once, the best of a few short runs.</summary>
    public static double Measure(int threads)
    {
        double best = 0;
        for (int run = 0; run < 5; run++)
        {
            double[] rates = new double[threads];
            using Barrier barrier = new(threads);
            Thread[] workers = [.. Enumerable.Range(0, threads).Select(i => new Thread(() =>
            {
                RunLoop(Rounds / 10);
                barrier.SignalAndWait();
                long started = Stopwatch.GetTimestamp();
                double flops = RunLoop(Rounds);
                rates[i] = flops / Stopwatch.GetElapsedTime(started).TotalSeconds / 1e9;
            }))];
            foreach (Thread worker in workers)
                worker.Start();
            foreach (Thread worker in workers)
                worker.Join();
            best = Math.Max(best, rates.Sum());
        }

        return best;
    }

    private static double RunLoop(int rounds) =>
        Vector512.IsHardwareAccelerated ? Loop512(rounds) : Loop256(rounds);

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static double Loop512(int rounds)
    {
        Vector512<float> x = Vector512.Create(0.999f);
        Vector512<float> y = Vector512.Create(0.001f);
        Vector512<float> a = y, b = y, c = y, d = y, e = y, f = y, g = y, h = y, i = y, j = y, k = y, l = y;
        for (int round = 0; round < rounds; round++)
        {
            a = Vector512.FusedMultiplyAdd(a, x, y);
            b = Vector512.FusedMultiplyAdd(b, x, y);
            c = Vector512.FusedMultiplyAdd(c, x, y);
            d = Vector512.FusedMultiplyAdd(d, x, y);
            e = Vector512.FusedMultiplyAdd(e, x, y);
            f = Vector512.FusedMultiplyAdd(f, x, y);
            g = Vector512.FusedMultiplyAdd(g, x, y);
            h = Vector512.FusedMultiplyAdd(h, x, y);
            i = Vector512.FusedMultiplyAdd(i, x, y);
            j = Vector512.FusedMultiplyAdd(j, x, y);
            k = Vector512.FusedMultiplyAdd(k, x, y);
            l = Vector512.FusedMultiplyAdd(l, x, y);
        }

        Consume(Vector512.Sum(a + b + c + d + e + f + g + h + i + j + k + l));
        return rounds * 12.0 * 16 * 2;
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static double Loop256(int rounds)
    {
        Vector256<float> x = Vector256.Create(0.999f);
        Vector256<float> y = Vector256.Create(0.001f);
        Vector256<float> a = y, b = y, c = y, d = y, e = y, f = y, g = y, h = y, i = y, j = y, k = y, l = y;
        for (int round = 0; round < rounds; round++)
        {
            a = Vector256.FusedMultiplyAdd(a, x, y);
            b = Vector256.FusedMultiplyAdd(b, x, y);
            c = Vector256.FusedMultiplyAdd(c, x, y);
            d = Vector256.FusedMultiplyAdd(d, x, y);
            e = Vector256.FusedMultiplyAdd(e, x, y);
            f = Vector256.FusedMultiplyAdd(f, x, y);
            g = Vector256.FusedMultiplyAdd(g, x, y);
            h = Vector256.FusedMultiplyAdd(h, x, y);
            i = Vector256.FusedMultiplyAdd(i, x, y);
            j = Vector256.FusedMultiplyAdd(j, x, y);
            k = Vector256.FusedMultiplyAdd(k, x, y);
            l = Vector256.FusedMultiplyAdd(l, x, y);
        }

        Consume(Vector256.Sum(a + b + c + d + e + f + g + h + i + j + k + l));
        return rounds * 12.0 * 8 * 2;
    }

    // Keeps the loops' results alive.
    private static volatile float _sink;

    private static void Consume(float value) => _sink = value;
}
