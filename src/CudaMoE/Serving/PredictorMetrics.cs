using System.Diagnostics.Metrics;

namespace CudaMoE.Serving;

/// <summary>The instruments of all predictors of the process, on the meter <c>CudaMoE.Serving</c>; OpenTelemetry and dotnet-counters read them.</summary>
internal static class PredictorMetrics
{
    private static readonly Meter Meter = new("CudaMoE.Serving");

    public static readonly Counter<long> Rows = Meter.CreateCounter<long>("cudamoe.predictor.rows", "{row}", "Rows predicted");

    public static readonly Counter<long> Failed = Meter.CreateCounter<long>("cudamoe.predictor.failed_requests", "{request}", "Requests that ended with an error");

    public static readonly UpDownCounter<long> Waiting = Meter.CreateUpDownCounter<long>("cudamoe.predictor.waiting_rows", "{row}", "Rows that wait for the model");

    public static readonly Histogram<int> BatchRows = Meter.CreateHistogram<int>("cudamoe.predictor.batch.rows", "{row}", "Rows of a pass through the model");

    public static readonly Histogram<double> BatchDuration = Meter.CreateHistogram<double>("cudamoe.predictor.batch.duration", "s", "Time of a pass, encoding and reading included");
}
