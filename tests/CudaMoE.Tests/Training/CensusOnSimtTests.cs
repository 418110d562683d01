using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Data;
using CudaMoE.Tests.Support;
using CudaMoE.Training;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Training;

/// <summary>The kernels of the GPU train the census data as the cpu does.</summary>
public sealed class CensusOnSimtTests(ITestOutputHelper output)
{
    private const int Steps = 300;
    private const int Rows = 32;

    /// <summary>
    /// MMoE from one seed on both devices. Their sums differ in rounding only, so the losses may differ by what rounding does to this model: that
    /// is measured on the cpu, by a run whose every parameter was moved by one unit in the last place. The bound of a step is four times the largest
    /// shift of the losses up to that step, and at least four units in the last place of a loss near 1.
    /// </summary>
    [SimtFact]
    public void Train_Census_LossesOfSimtAreThoseOfTheCpuWithinRounding()
    {
        using TemporaryFolder folder = new();
        ModelDescription census = Census.Load(folder.Root);
        ModelDescription description = census with
        {
            Architecture = census.Architecture with { Experts = new() { Count = 4, Layers = [16] } },
            Training = census.Training with { BatchSize = Rows, Balancer = new() },
        };
        using Dataset dataset = Dataset.Open(description, Census.Folder);
        int tasks = description.Tasks.Count;
        double[] cpu = Train(TestDevices.Cpu, description, dataset);
        double[] moved = Train(TestDevices.Cpu, description, dataset, MoveByOneUnit);
        double[] simt = Train(TestDevices.Simt, description, dataset);

        double shift = MathF.BitIncrement(1) - 1;
        double largest = 0;
        for (int i = 0; i < cpu.Length; i++)
        {
            shift = Math.Max(shift, Math.Abs(moved[i] - cpu[i]));
            double difference = Math.Abs(simt[i] - cpu[i]);
            largest = Math.Max(largest, difference);
            Assert.True(
                difference <= 4 * shift,
                $"step {(i / tasks) + 1}, task {description.Tasks[i % tasks].Name}: loss {simt[i]:g9} on simt, {cpu[i]:g9} on the cpu; rounding shifts losses by {shift:g3} so far");
        }

        output.WriteLine($"largest difference {largest:g3}, largest shift {shift:g3}");
        Assert.True(simt[^(30 * tasks)..].Average() < 0.6 * simt[..(30 * tasks)].Average(), "the losses did not fall");
    }

    private static double[] Train(string deviceName, ModelDescription description, Dataset dataset, Action<MultiTaskModel>? change = null)
    {
        using Device device = Device.Open(deviceName);
        int[] outputs = [.. dataset.Encoders.Tasks.Select(t => t.Outputs)];
        using MultiTaskModel model = new(device, description, dataset.Layout, outputs, Rows, training: true);
        change?.Invoke(model);
        TrainingStep step = new(model, Steps);
        using BatchLoader loader = dataset.Train.CreateLoader(new() { BatchSize = Rows, Shuffle = true, Seed = 7 });
        double[] losses = new double[Steps * outputs.Length];
        for (int i = 0; i < Steps; i++)
        {
            Assert.True(loader.TryTake(out Batch? batch));
            step.Run(batch, i + 1);
            step.Finish();
            step.Losses.CopyTo(losses.AsSpan(i * outputs.Length));
            loader.Return(batch);
        }

        return losses;
    }

    private static void MoveByOneUnit(MultiTaskModel model)
    {
        Random random = new(1);
        foreach (Parameter parameter in model.Parameters)
            TestDevices.Write(model, parameter, Array.ConvertAll(TestDevices.Read(model, parameter), v => random.Next(2) == 0 ? MathF.BitIncrement(v) : MathF.BitDecrement(v)));
    }
}
