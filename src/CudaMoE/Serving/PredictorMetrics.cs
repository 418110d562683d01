using System.Diagnostics.Metrics;

namespace CudaMoE.Serving;

/// <summary>
/// The instruments of all predictors of the process, on the meter <c>CudaMoE.Serving</c>; OpenTelemetry and dotnet-counters read them. Who listens is other
/// code of the process: what it throws is its own affair and harms no request.
/// </summary>
internal static class PredictorMetrics
{
    private static readonly Meter Meter = new("CudaMoE.Serving");

    private static readonly Counter<long> RowsInstrument = Meter.CreateCounter<long>("cudamoe.predictor.rows", "{row}", "Rows predicted");

    private static readonly Counter<long> FailedInstrument = Meter.CreateCounter<long>("cudamoe.predictor.failed_requests", "{request}", "Requests that ended with an error");

    private static readonly UpDownCounter<long> WaitingInstrument = Meter.CreateUpDownCounter<long>("cudamoe.predictor.waiting_rows", "{row}", "Rows that wait for the model");

    private static readonly Histogram<int> BatchRowsInstrument = Meter.CreateHistogram<int>("cudamoe.predictor.batch.rows", "{row}", "Rows of a pass through the model");

    private static readonly Histogram<double> BatchDurationInstrument = Meter.CreateHistogram<double>("cudamoe.predictor.batch.duration", "s", "Time of a pass, encoding and reading included");

    public static void Pass(int rows, TimeSpan duration)
    {
        Tell(static value => RowsInstrument.Add(value), rows);
        Tell(static value => BatchRowsInstrument.Record(value), rows);
        Tell(static value => BatchDurationInstrument.Record(value), duration.TotalSeconds);
    }

    public static void Waiting(int rows) => Tell(static value => WaitingInstrument.Add(value), rows);

    public static void Failed() => Tell(static value => FailedInstrument.Add(value), 1);

    private static void Tell<T>(Action<T> instrument, T value)
    {
        try
        {
            instrument(value);
        }
        catch (Exception)
        {
            // The listener's.
        }
    }
}
