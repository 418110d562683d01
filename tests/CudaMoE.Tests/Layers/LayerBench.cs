using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Tensors;
using CudaMoE.Tests.Models;

namespace CudaMoE.Tests.Layers;

/// <summary>A context for single layers, and their slots and parameters as arrays of double, in the order of rows.</summary>
internal sealed class LayerBench : IDisposable
{
    private readonly Random _random;

    public LayerBench(string device, int maxRows, Random random)
    {
        Device = Device.Open(device);
        Context = new(Device, TestModels.Describe(new() { Type = ModelType.SharedBottom, Bottom = [4] }, TestModels.BinaryTasks), maxRows, training: true);
        _random = random;
    }

    public Device Device { get; }

    public LayerContext Context { get; }

    public double[,] Read(Slot slot, long rows)
    {
        Context.Stream.Synchronize();
        double[,] values = new double[rows, slot.Columns];
        float[] row = new float[slot.Columns];
        for (int r = 0; r < rows; r++)
        {
            Context.Stream.CopyToHost<float>(slot.Pointer + (nint)(r * slot.RowStride * sizeof(float)), row);
            for (int c = 0; c < row.Length; c++)
                values[r, c] = row[c];
        }

        return values;
    }

    public void Write(Slot slot, double[,] values)
    {
        float[] row = new float[slot.Columns];
        for (int r = 0; r < values.GetLength(0); r++)
        {
            for (int c = 0; c < row.Length; c++)
                row[c] = (float)values[r, c];
            Context.Stream.CopyToDevice<float>(row, slot.Pointer + (nint)(r * slot.RowStride * sizeof(float)));
        }
    }

    /// <summary>Writes random values in +-1, as they are in f32, and answers them.</summary>
    public double[,] Fill(Slot slot, long rows)
    {
        double[,] values = Random(rows, slot.Columns);
        Write(slot, values);
        return values;
    }

    /// <summary>NaN in every row, so that what is not written shows.</summary>
    public void Poison(Slot slot, long rows)
    {
        double[,] values = new double[rows, slot.Columns];
        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < slot.Columns; j++)
                values[i, j] = double.NaN;
        }

        Write(slot, values);
    }

    public double[,] Random(long rows, long columns)
    {
        double[,] values = new double[rows, columns];
        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < columns; j++)
                values[i, j] = (float)((_random.NextDouble() * 2) - 1);
        }

        return values;
    }

    /// <summary>Sets all parameters to random values and answers them by name.</summary>
    public Dictionary<string, double[]> FillParameters()
    {
        Dictionary<string, double[]> all = [];
        foreach (Parameter parameter in Context.Parameters.All)
        {
            float[] values = [.. Enumerable.Range(0, (int)parameter.Count).Select(_ => (float)((_random.NextDouble() * 2) - 1))];
            Context.Stream.CopyToDevice<float>(values, parameter.Value);
            all[parameter.Name] = [.. values.Select(v => (double)v)];
        }

        return all;
    }

    public float[] Gradient(string parameter)
    {
        Parameter found = Context.Parameters.All.Single(p => p.Name == parameter);
        float[] values = new float[found.Count];
        Context.Stream.Synchronize();
        Context.Stream.CopyToHost<float>(found.Gradient, values);
        return values;
    }

    /// <summary>Key counts in device memory, kept until the context goes.</summary>
    public unsafe int* Counts(int[] counts)
    {
        DeviceBuffer buffer = Context.Own(Device.Allocate(counts.Length * sizeof(int)));
        Context.Stream.CopyToDevice<int>(counts, buffer.Pointer);
        return (int*)buffer.Pointer;
    }

    public static void Near(double[,] expected, double[,] actual, double tolerance)
    {
        for (int i = 0; i < expected.GetLength(0); i++)
        {
            for (int j = 0; j < expected.GetLength(1); j++)
                Assert.True(Math.Abs(expected[i, j] - actual[i, j]) <= tolerance, $"[{i}, {j}]: {actual[i, j]} instead of {expected[i, j]}");
        }
    }

    /// <summary>All elements of a matrix against central differences of a smooth loss in it.</summary>
    public static void NearDifferences(double[,] x, Func<double> loss, double[,] gradient)
    {
        const double step = 1e-4;
        for (int i = 0; i < x.GetLength(0); i++)
        {
            for (int j = 0; j < x.GetLength(1); j++)
            {
                double saved = x[i, j];
                x[i, j] = saved + step;
                double up = loss();
                x[i, j] = saved - step;
                double down = loss();
                x[i, j] = saved;
                double expected = (up - down) / (2 * step);
                Assert.True(Math.Abs(expected - gradient[i, j]) <= 2e-5 * (1 + Math.Abs(expected)), $"[{i}, {j}]: {gradient[i, j]} instead of {expected}");
            }
        }
    }

    public static double Dot(double[,] a, double[,] b) => a.Cast<double>().Zip(b.Cast<double>(), (x, y) => x * y).Sum();

    public void Dispose()
    {
        Context.Dispose();
        Device.Dispose();
    }
}
