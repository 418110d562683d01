using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Export;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Tests.Support;
using CudaMoE.Training;

namespace CudaMoE.Tests.Export;

/// <summary>A model with random weights over <see cref="ExportRows"/>, its outputs for random rows, and its weights in a file.</summary>
internal sealed class ExportScenario : IDisposable
{
    private readonly Device _device;
    private readonly Batch _batch;

    public ExportScenario(TemporaryFolder folder, ArchitectureDescription architecture, IReadOnlyList<TaskDescription> tasks, Random random, int rows = 40, string? device = null)
    {
        Folder = folder;
        Rows = ExportRows.Random(random, rows, unseen: true);
        Description = new()
        {
            Name = "export",
            Data = new() { Format = new() { Missing = ExportRows.Missing }, Train = ["train.csv"] },
            Features = ExportRows.Features,
            Tasks = tasks,
            Architecture = architecture,
            Training = new() { Seed = (ulong)random.NextInt64() },
        };
        Encoders = Fit(folder, ExportRows.Random(random, 60, unseen: false));
        _device = Device.Open(device ?? TestDevices.Default);
        Model = new(_device, Description, Encoders.Layout, [.. Encoders.Tasks.Select(t => t.Outputs)], rows, training: false);
        Randomize(random);
        SafetensorsWriter writer = new();
        ModelCheckpoint.AddWeights(Model, writer);
        writer.Save(WeightsPath);
        File.WriteAllText(folder["rows.csv"], ExportRows.Text(Rows));
        using PredictionReader reader = Dataset.OpenForPrediction(Encoders, folder["rows.csv"]);
        _batch = new(Encoders.Layout, rows);
        Assert.True(reader.Read(_batch));
        Model.Forward(_batch);
        Model.Stream.Synchronize();
    }

    public TemporaryFolder Folder { get; }

    /// <summary>The texts that the model's outputs are for, the first line with the columns.</summary>
    public string[][] Rows { get; }

    public ModelDescription Description { get; }

    public FittedEncoders Encoders { get; }

    public MultiTaskModel Model { get; }

    public string WeightsPath => Folder["weights.safetensors"];

    public OnnxExportResult Export(OnnxExportOptions? options = null, long limit = OnnxFile.MessageLimit)
    {
        using SafetensorsReader weights = SafetensorsReader.Open(WeightsPath);
        return OnnxExporter.Export(Description, Encoders, weights, step: 7, Folder["model.onnx"], options ?? new(), limit);
    }

    /// <summary>Logits of a task, of its own tower where <paramref name="tower"/> says so.</summary>
    public float[] Logits(int task, bool tower = false) => TestDevices.Read(Model, tower ? Model.ReadTowerLogits(task) : Model.ReadLogits(task));

    public void Dispose()
    {
        _batch.Dispose();
        Model.Dispose();
        _device.Dispose();
    }

    private FittedEncoders Fit(TemporaryFolder folder, string[][] rows)
    {
        File.WriteAllText(folder["train.csv"], ExportRows.Text(rows));
        EncoderFitter fitter = new(Description);
        using DelimitedReader reader = new(folder["train.csv"], Description.Data!.Format);
        fitter.Bind(reader);
        while (reader.Read())
            fitter.Observe(reader);
        return fitter.Finish([]);
    }

    /// <summary>Weights of a size that each matters; a fresh model's tables are near 0, its norms 1.</summary>
    private void Randomize(Random random)
    {
        foreach (Parameter parameter in Model.Parameters.Where(p => p.Kind is ParameterKind.Embedding or ParameterKind.Norm || p.Name == "norm.bias"))
        {
            float middle = parameter.Kind == ParameterKind.Norm ? 1 : 0;
            float[] values = [.. Enumerable.Range(0, (int)parameter.Count).Select(_ => (float)(middle + random.NextDouble() - 0.5))];
            if (parameter.Type == ElementType.F32)
                Model.Stream.CopyToDevice<float>(values, parameter.Value);
            else
                Model.Stream.CopyToDevice<ushort>([.. values.Select(BFloat16.FromSingle)], parameter.Value);
        }

        Model.ParametersChanged();
    }
}
