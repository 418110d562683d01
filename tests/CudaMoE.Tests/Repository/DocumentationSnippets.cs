using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Metrics;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Training;

namespace CudaMoE.Tests.Repository;

/// <summary>The C# blocks of the pages in docs/, as regions: they compile as long as the pages are true.</summary>
internal static class DocumentationSnippets
{
    internal static void Checkpoints()
    {
        #region checkpoints
        CheckpointFolder checkpoint = new CheckpointStore("runs/shop-20260102-030405/checkpoints").OpenLatest()!;   // or OpenBest()
        ModelDescription description = DescriptionJson.Load(checkpoint.ModelPath);
        FittedEncoders encoders = FittedEncoders.Load(checkpoint.EncodersPath!);
        using Device device = Device.Open("cpu");
        using MultiTaskModel model = new(device, description, encoders.Layout, [.. encoders.Tasks.Select(task => task.Outputs)], maxRows: 1024, training: false);
        using (SafetensorsReader weights = checkpoint.OpenWeights())
            ModelCheckpoint.LoadWeights(model, weights);

        using PredictionReader rows = Dataset.OpenForPrediction(encoders, "new.csv");
        using Batch batch = new(rows.Layout, model.MaxRows);
        float[] scores = new float[model.MaxRows * model.Outputs[0]];
        while (rows.Read(batch))
        {
            model.Forward(batch);
            model.Stream.Synchronize();
            Predictions.Read(model, task: 0, scores);    // batch.Rows predictions of the first task
        }
        #endregion
    }

    internal static void Data(ModelDescription model)
    {
        #region data
        using Dataset data = Dataset.Open(model, baseFolder: ".");
        using BatchLoader loader = data.Train.CreateLoader(new() { BatchSize = 1024, Shuffle = true, Seed = 1, Epoch = 0 });
        while (loader.TryTake(out Batch? batch))
        {
            // batch.Rows, batch.Ids(i), batch.Dense, batch.Labels(t), batch.Weights(t)
            loader.Return(batch);
        }
        #endregion
    }

    internal static double? Metrics(float[] predictions, float[] labels, float[] weights, int[] groups)
    {
        #region metrics
        TaskAccumulator accumulator = new BinaryAccumulator("click");
        accumulator.Add(predictions, labels, weights, groups);    // batch by batch; weights and groups may be left out
        double? auc = accumulator.Compute().Find(MetricCatalog.Auc)?.Value;
        #endregion
        return auc;
    }

    internal static string Report()
    {
        #region report
        IReadOnlyList<RunEvent> events = RunLogReader.Read("runs/census-20260102-030405/metrics.jsonl");
        string html = RunReport.Build(events);
        #endregion
        return html;
    }

    internal static void Training()
    {
        #region training
        ModelDescription model = DescriptionJson.Load("model.json");
        TrainingResult result = Trainer.Train(model, baseFolder: ".", new TrainerOptions { Device = "cpu", RunsFolder = "runs" });
        Console.WriteLine($"{result.Status}: {result.CheckpointPath}");
        #endregion
    }
}
