using CudaMoE.Data;
using CudaMoE.Description;
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
    private const int Steps = 20;
    private const int Rows = 32;

    [Fact]
    public void Train_Census_LossesOfCpuAndSimtAgree()
    {
        using TemporaryFolder folder = new();
        ModelDescription census = Census.Load(folder.Root);
        ModelDescription description = census with
        {
            Architecture = census.Architecture with { Experts = new() { Count = 4, Layers = [16] }, Tower = [8], Projection = null, LayerNorm = false },
            Training = census.Training with { BatchSize = Rows, Balancer = new() },
        };
        using Dataset dataset = Dataset.Open(description, Census.Folder);
        foreach (string spec in new[] { "cpu:threads=2", "simt" })
        {
            var sw = System.Diagnostics.Stopwatch.StartNew();
            double[] curve = Train(spec, description, dataset);
            output.WriteLine($"{spec}: {sw.Elapsed.TotalSeconds:0.0} s " + string.Join(" ", curve.Where((_, i) => i % 60 < 3).Select(v => v.ToString("0.000000000"))));
        }
    }

    private static double[] Train(string spec, ModelDescription description, Dataset dataset)
    {
        using Device device = Device.Open(spec);
        int[] outputs = [.. dataset.Encoders.Tasks.Select(t => t.Outputs)];
        using MultiTaskModel model = new(device, description, dataset.Layout, outputs, Rows, training: true);
        TrainingStep step = new(model, Steps);
        using BatchLoader loader = dataset.Train.CreateLoader(new() { BatchSize = Rows, Shuffle = true, Seed = 7 });
        double[] curve = new double[Steps * outputs.Length];
        for (int i = 0; i < Steps; i++)
        {
            Assert.True(loader.TryTake(out Batch? batch));
            step.Run(batch, i + 1);
            step.Finish();
            step.Losses.CopyTo(curve.AsSpan(i * outputs.Length));
            loader.Return(batch);
        }

        return curve;
    }
}
