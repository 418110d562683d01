using CudaMoE.Data;

namespace CudaMoE.Benchmarking;

/// <summary>
/// The synthetic data of the reference configurations, the same in any language. u(stream, i): splitmix64's finaliser on
/// (stream * 2^32 + i + 1) * 0x9E3779B97F4A7C15, top 24 bits / 2^24. Batch b uses streams 4b+1 (ids), 4b+2 (dense), 4b+3 (labels), each indexed
/// row-major: ids [batch, features, bag] = min(floor(rows * u^skew), rows - 1), dense [batch, dense] = u, labels [batch, tasks] = u &lt; 0.25.
/// </summary>
internal static unsafe class BenchmarkData
{
    /// <summary>Batch <paramref name="index"/> of <paramref name="rows"/> samples.</summary>
    public static Batch Create(BenchmarkConfig config, BatchLayout layout, int rows, int index)
    {
        Batch batch = new(layout, rows) { Rows = rows };
        SparseConfig sparse = config.Sparse;
        ulong ids = (4UL * (ulong)index) + 1;
        for (int f = 0; f < sparse.Features; f++)
        {
            if (sparse.Bag > 1)
            {
                batch.SetIdCount(f, (long)rows * sparse.Bag);
                for (int row = 0; row <= rows; row++)
                    batch.OffsetsPointer(f)[row] = row * sparse.Bag;
            }

            int* target = batch.IdsPointer(f);
            for (int row = 0; row < rows; row++)
            {
                for (int i = 0; i < sparse.Bag; i++)
                {
                    ulong element = (((ulong)row * (ulong)sparse.Features) + (ulong)f) * (ulong)sparse.Bag + (ulong)i;
                    long id = (long)(sparse.Rows * Math.Pow(Uniform(ids, element), sparse.Skew));
                    target[(row * sparse.Bag) + i] = (int)Math.Min(id, sparse.Rows - 1);
                }
            }
        }

        for (int i = 0; i < batch.Dense.Length; i++)
            batch.Dense[i] = (float)Uniform(ids + 1, (ulong)i);
        for (int t = 0; t < layout.Tasks; t++)
        {
            batch.Weights(t).Fill(1);
            for (int row = 0; row < rows; row++)
                batch.Labels(t)[row] = Uniform(ids + 2, ((ulong)row * (ulong)layout.Tasks) + (ulong)t) < 0.25 ? 1 : 0;
        }

        return batch;
    }

    /// <summary>u(stream, i), in [0, 1).</summary>
    public static double Uniform(ulong stream, ulong i)
    {
        unchecked
        {
            ulong z = ((stream << 32) + i + 1) * 0x9E3779B97F4A7C15;
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
            z ^= z >> 31;
            return (z >> 40) * (1.0 / (1 << 24));
        }
    }
}
