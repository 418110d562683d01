using CudaMoE.Data;
using CudaMoE.Models;

namespace CudaMoE.Training;

/// <summary>What a model does on the rows of a split.</summary>
/// <param name="Metrics">Of each task, calibration curves included.</param>
/// <param name="Gates">What the gates did; null for a model without.</param>
/// <param name="Rows">Rows of the split.</param>
/// <param name="Seconds">How long it took.</param>
public sealed record Evaluation(IReadOnlyList<Metrics.TaskMetrics> Metrics, GateUse? Gates, long Rows, double Seconds);

/// <summary>Mean gate weights and the share of work of each expert.</summary>
/// <param name="MeanWeights">[gates, experts], row-major.</param>
/// <param name="ExpertLoad">[experts], sums to 1.</param>
public sealed record GateUse(IReadOnlyList<double> MeanWeights, IReadOnlyList<double> ExpertLoad);

/// <summary>Measures a model on labelled rows, in order, without noise or dropped metrics.</summary>
public static class Evaluator
{
    /// <summary>Runs the model over a split.</summary>
    /// <param name="model">The model; its largest batch is used.</param>
    /// <param name="split">The rows.</param>
    /// <param name="encoders">The encoders, for classes and label transforms.</param>
    /// <param name="observer">Is told of the progress.</param>
    /// <param name="cancellation">Stops it.</param>
    public static Evaluation Evaluate(MultiTaskModel model, DatasetSplit split, FittedEncoders encoders, ITrainingObserver? observer = null, CancellationToken cancellation = default)
    {
        long started = Environment.TickCount64;
        EvaluationSums sums = new(model, encoders);
        using BatchLoader loader = split.CreateLoader(new() { BatchSize = model.MaxRows });
        long rows = 0;
        long told = started;
        while (loader.TryTake(out Batch? batch))
        {
            cancellation.ThrowIfCancellationRequested();
            model.Forward(batch);
            model.Stream.Synchronize();
            sums.Add(batch);
            rows += batch.Rows;
            loader.Return(batch);
            if (Environment.TickCount64 - told > 200)
            {
                told = Environment.TickCount64;
                observer?.OnEvaluationProgress(new(split.Name, rows, split.Rows));
            }
        }

        return sums.Finish(rows, (Environment.TickCount64 - started) / 1000.0);
    }

    /// <summary>Measures a model on the labelled rows of a file, in order.</summary>
    public static Evaluation Evaluate(MultiTaskModel model, PredictionReader reader, FittedEncoders encoders, CancellationToken cancellation = default)
    {
        long started = Environment.TickCount64;
        EvaluationSums sums = new(model, encoders);
        using Batch batch = new(reader.Layout, model.MaxRows);
        long rows = 0;
        while (reader.Read(batch))
        {
            cancellation.ThrowIfCancellationRequested();
            model.Forward(batch);
            model.Stream.Synchronize();
            sums.Add(batch);
            rows += batch.Rows;
        }

        return sums.Finish(rows, (Environment.TickCount64 - started) / 1000.0);
    }
}
