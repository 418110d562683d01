using System.Globalization;

namespace CudaMoE.Training;

/// <summary>The metrics of one task on one split.</summary>
public sealed record TaskMetrics
{
    /// <summary>The task.</summary>
    public required string Task { get; init; }

    /// <summary>Rows that were measured: labelled and not masked out.</summary>
    public required long Rows { get; init; }

    /// <summary>Metrics in the order in which they are shown.</summary>
    public required IReadOnlyList<MetricValue> Metrics { get; init; }
}

/// <summary>One metric: a finite value, or the reason why there is none.</summary>
public sealed record MetricValue
{
    /// <summary>"auc", "log_loss", "ne", "calibration", "gauc", "rmse", "mae", "accuracy".</summary>
    public required string Name { get; init; }

    /// <summary>The value; null when the metric is undefined on these rows.</summary>
    public double? Value { get; init; }

    /// <summary>Why it is undefined, e.g. "no positive rows"; null when there is a value.</summary>
    public string? Undefined { get; init; }

    /// <summary>"auc 0.9501", or "gauc undefined (no user has both labels)".</summary>
    public override string ToString() => Value is { } value ? string.Create(CultureInfo.InvariantCulture, $"{Name} {value:F4}") : $"{Name} undefined ({Undefined})";

    /// <summary>A metric with a value; one that is not finite becomes undefined.</summary>
    public static MetricValue Of(string name, double value) =>
        double.IsFinite(value) ? new() { Name = name, Value = value } : new() { Name = name, Undefined = "the value is not finite" };

    /// <summary>A metric that these rows do not define.</summary>
    public static MetricValue NotDefined(string name, string reason) => new() { Name = name, Undefined = reason };
}

/// <summary>Calibration of one task.</summary>
public sealed record TaskCalibration
{
    /// <summary>The task.</summary>
    public required string Task { get; init; }

    /// <summary>Bins by ascending prediction; empty bins are left out.</summary>
    public required IReadOnlyList<CalibrationBin> Bins { get; init; }
}

/// <summary>The rows of one bin of predictions.</summary>
/// <param name="MeanPrediction">Mean prediction of the rows.</param>
/// <param name="MeanLabel">Mean label of the rows.</param>
/// <param name="Count">Number of rows.</param>
public sealed record CalibrationBin(double MeanPrediction, double MeanLabel, long Count);
