using CudaMoE.Description;

namespace CudaMoE.Metrics;

/// <summary>A metric's value, or the reason why it has none.</summary>
/// <param name="Name">Its name, see <see cref="MetricCatalog"/>.</param>
/// <param name="Value">The value; null when it is undefined.</param>
/// <param name="Undefined">Why it is undefined; null when it has a value.</param>
public sealed record MetricValue(string Name, double? Value, string? Undefined)
{
    internal static MetricValue Of(string name, double value) =>
        double.IsFinite(value) ? new(name, value, null) : new(name, null, "the value is not finite");

    internal static MetricValue None(string name, string reason) => new(name, null, reason);
}

/// <summary>Rows whose predicted probability lies in a range.</summary>
/// <param name="Lower">Least probability.</param>
/// <param name="Upper">Largest probability.</param>
/// <param name="Rows">Their number.</param>
/// <param name="Weight">Sum of their weights.</param>
/// <param name="MeanPrediction">Weighted mean of the predictions; null when there are no rows.</param>
/// <param name="MeanLabel">Weighted mean of the labels; null when there are no rows.</param>
public sealed record CalibrationBin(double Lower, double Upper, long Rows, double Weight, double? MeanPrediction, double? MeanLabel);

/// <summary>All metrics of a task.</summary>
/// <param name="Task">The task's name.</param>
/// <param name="Type">The task's kind.</param>
/// <param name="Rows">Rows with a label and a weight above 0.</param>
/// <param name="Weight">Sum of their weights.</param>
/// <param name="MeanLabel">Weighted mean of the labels; null for multi-class tasks and without rows.</param>
/// <param name="MeanPrediction">Weighted mean of the predictions; null for multi-class tasks and without rows.</param>
/// <param name="Values">The metrics in the order of <see cref="MetricCatalog.All"/>.</param>
/// <param name="Calibration">Binary tasks: the calibration curve; otherwise empty.</param>
public sealed record TaskMetrics(
    string Task,
    TaskType Type,
    long Rows,
    double Weight,
    double? MeanLabel,
    double? MeanPrediction,
    IReadOnlyList<MetricValue> Values,
    IReadOnlyList<CalibrationBin> Calibration)
{
    /// <summary>The metric of that name; null when this kind of task has none.</summary>
    public MetricValue? Find(string name) => Values.FirstOrDefault(value => value.Name == name);
}
