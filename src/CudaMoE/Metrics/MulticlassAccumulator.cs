using System.Globalization;
using CudaMoE.Description;

namespace CudaMoE.Metrics;

/// <summary>
/// Metrics of a multi-class task: log loss of the right class's probability, and the share of rows whose likeliest class (the first of
/// equals) is right. Keeps sums only.
/// </summary>
public sealed class MulticlassAccumulator : TaskAccumulator
{
    private double _loss;
    private double _right;

    /// <summary>Creates it.</summary>
    /// <param name="task">The task's name.</param>
    /// <param name="classes">Number of classes, at least 2; predictions are their probabilities.</param>
    public MulticlassAccumulator(string task, int classes)
        : base(task, TaskType.Multiclass, classes) => ArgumentOutOfRangeException.ThrowIfLessThan(classes, 2);

    private protected override string InvalidPrediction => "not from 0 to 1";

    private protected override void CheckLabel(float label, int row)
    {
        if (!(label >= 0 && label < Width && label == MathF.Floor(label)))
            throw new ArgumentException(string.Create(CultureInfo.InvariantCulture, $"labels[{row}] is {label}; it must be a class from 0 to {Width - 1}, or NaN for none"));
    }

    private protected override bool AddRow(ReadOnlySpan<float> prediction, float label, float weight, int group)
    {
        int likeliest = 0;
        for (int i = 0; i < prediction.Length; i++)
        {
            if (prediction[i] is not (>= 0 and <= 1))
                return false;
            if (prediction[i] > prediction[likeliest])
                likeliest = i;
        }

        _loss -= weight * Math.Log(Math.Max(prediction[(int)label], BinaryAccumulator.LeastProbability));
        _right += likeliest == (int)label ? weight : 0;
        return true;
    }

    private protected override TaskMetrics Evaluate() => new(
        Task,
        Type,
        Rows,
        Weight,
        null,
        null,
        [MetricValue.Of(MetricCatalog.LogLoss, _loss / Weight), MetricValue.Of(MetricCatalog.Accuracy, _right / Weight)],
        []);

    private protected override void Clear() => _loss = _right = 0;
}
