using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Metrics;
using CudaMoE.Models;

namespace CudaMoE.Training;

/// <summary>Collects what an evaluation measures, batch by batch.</summary>
internal sealed class EvaluationSums
{
    private readonly MultiTaskModel _model;
    private readonly FittedEncoders _encoders;
    private readonly TaskAccumulator[] _tasks;
    private readonly float[] _predictions;
    private readonly float[] _labels;
    private readonly double[] _gateSums;
    private readonly double[] _load;

    public EvaluationSums(MultiTaskModel model, FittedEncoders encoders)
    {
        _model = model;
        _encoders = encoders;
        _tasks = [.. encoders.Tasks.Select(task => TaskAccumulator.Create(task.Description, task.Outputs))];
        _labels = new float[model.MaxRows];
        _predictions = new float[(long)model.MaxRows * model.Outputs.Max()];
        _gateSums = new double[model.GateCount * model.ExpertCount];
        _load = new double[model.ExpertCount];
    }

    /// <summary>Adds the model's last forward, which was of <paramref name="batch"/>.</summary>
    public void Add(Batch batch)
    {
        for (int t = 0; t < _tasks.Length; t++)
        {
            Predictions.Read(_model, t, _predictions);
            Span<float> predictions = _predictions.AsSpan(0, batch.Rows * _model.Outputs[t]);
            Span<float> labels = _labels.AsSpan(0, batch.Rows);
            batch.Labels(t).CopyTo(labels);
            if (_encoders.Tasks[t].Description.Type == TaskType.Regression)
                Restore(_encoders.Tasks[t], predictions, labels);
            _tasks[t].Add(predictions, labels, batch.Weights(t), _encoders.GroupColumn == null ? [] : batch.Groups);
        }

        ReadOnlySpan<double> sums = _model.GateSums;
        for (int i = 0; i < sums.Length; i++)
            _gateSums[i] += sums[i];
        ReadOnlySpan<long> counts = _model.ExpertCounts;
        for (int i = 0; i < _gateSums.Length; i++)
            _load[i % _load.Length] += _model.IsSparse ? counts[i] : sums[i];
    }

    public Evaluation Finish(long rows, double seconds)
    {
        GateUse? gates = null;
        if (_model.HasGates && rows > 0)
        {
            double total = _load.Sum();
            gates = new([.. _gateSums.Select(s => s / rows)], [.. _load.Select(l => total > 0 ? l / total : 0)]);
        }

        return new([.. _tasks.Select(t => t.Compute())], gates, rows, seconds);
    }

    /// <summary>Back from the transformed label to the label's own unit.</summary>
    private static void Restore(FittedTask task, Span<float> predictions, Span<float> labels)
    {
        for (int row = 0; row < labels.Length; row++)
        {
            predictions[row] = (float)task.Restore(predictions[row]);
            labels[row] = (float)task.Restore(labels[row]);
        }
    }
}
