namespace CudaMoE.Training;

/// <summary>Metrics in the form of the run log.</summary>
public static class LoggedMetrics
{
    /// <summary>Names and values.</summary>
    public static IReadOnlyList<TaskMetrics> Of(IReadOnlyList<Metrics.TaskMetrics> metrics) =>
        [.. metrics.Select(m => new TaskMetrics
        {
            Task = m.Task,
            Rows = m.Rows,
            Metrics = [.. m.Values.Select(v => new MetricValue { Name = v.Name, Value = v.Value, Undefined = v.Undefined })],
        })];

    /// <summary>Calibration curves of the tasks that have one, without empty bins.</summary>
    public static IReadOnlyList<TaskCalibration> Calibration(IReadOnlyList<Metrics.TaskMetrics> metrics) =>
        [.. metrics.Where(m => m.Calibration.Count > 0).Select(m => new TaskCalibration
        {
            Task = m.Task,
            Bins = [.. m.Calibration
                .Where(b => b.MeanPrediction != null && b.MeanLabel != null)
                .Select(b => new CalibrationBin(b.MeanPrediction!.Value, b.MeanLabel!.Value, b.Rows))],
        })];
}
