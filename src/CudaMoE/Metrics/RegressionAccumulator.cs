using System.Globalization;
using CudaMoE.Description;

namespace CudaMoE.Metrics;

/// <summary>Metrics of a regression task: root mean squared error and mean absolute error, in the unit of labels and predictions. Keeps sums only.</summary>
public sealed class RegressionAccumulator(string task) : TaskAccumulator(task, TaskType.Regression, 1)
{
    private double _squares;
    private double _absolutes;
    private double _labels;
    private double _predictions;

    private protected override void CheckLabel(float label, int row)
    {
        if (!float.IsFinite(label))
            throw new ArgumentException(string.Create(CultureInfo.InvariantCulture, $"labels[{row}] is {label}; it must be finite, or NaN for none"));
    }

    private protected override bool AddRow(ReadOnlySpan<float> prediction, float label, float weight, int group)
    {
        if (!float.IsFinite(prediction[0]))
            return false;
        double error = (double)prediction[0] - label;
        _squares += weight * error * error;
        _absolutes += weight * Math.Abs(error);
        _labels += (double)weight * label;
        _predictions += (double)weight * prediction[0];
        return true;
    }

    private protected override TaskMetrics Evaluate() => new(
        Task,
        Type,
        Rows,
        Weight,
        _labels / Weight,
        _predictions / Weight,
        [MetricValue.Of(MetricCatalog.Rmse, Math.Sqrt(_squares / Weight)), MetricValue.Of(MetricCatalog.Mae, _absolutes / Weight)],
        []);

    private protected override void Clear() => _squares = _absolutes = _labels = _predictions = 0;
}
