// Serves a trained model over HTTP:
//   dotnet run -c Release --project samples/AspNetServing -- runs/census-20260102-030405 --urls http://localhost:5080
//   curl localhost:5080/columns
//   curl localhost:5080/predict -H 'Content-Type: application/json' -d '{"rows": [{"age": 44, ...}]}'
using System.Text.Json;
using CudaMoE;
using CudaMoE.Data;
using CudaMoE.Serving;
using Microsoft.Extensions.Diagnostics.HealthChecks;

if (args.Length == 0 || args[0].StartsWith('-'))
{
    Console.Error.WriteLine("usage: AspNetServing RUN_OR_CHECKPOINT [--device DEVICE] [--maxBatch ROWS] [--urls URLS]");
    return 2;
}

WebApplicationBuilder builder = WebApplication.CreateBuilder(args[1..]);
Predictor predictor;
try
{
    predictor = Predictor.Open(args[0], new() { Device = builder.Configuration["device"] ?? "auto", MaxBatch = builder.Configuration.GetValue("maxBatch", 256) });
}
catch (CudaMoEException error)
{
    Console.Error.WriteLine(error.Message);
    return 1;
}

builder.Services.AddSingleton(_ => predictor);
builder.Services.AddHealthChecks().AddCheck(nameof(Predictor), () => predictor.QueryFault() is { } fault ? HealthCheckResult.Unhealthy(fault) : HealthCheckResult.Healthy());
WebApplication app = builder.Build();

app.MapHealthChecks("/health", new() { ResponseWriter = (context, report) => context.Response.WriteAsync(report.Entries[nameof(Predictor)].Description ?? report.Status.ToString()) });
app.MapGet("/columns", (Predictor predictor) => new { predictor.Checkpoint, predictor.Columns, Tasks = predictor.Tasks.Select(task => new { task.Description.Name, Type = task.Description.Type.ToString(), task.Classes }) });
app.MapPost("/predict", async (PredictRequest request, Predictor predictor, CancellationToken cancellation) =>
{
    if (request.Rows is null)
        return Results.Problem("rows is missing: send {\"rows\": [{ ... }]}", statusCode: StatusCodes.Status400BadRequest);
    try
    {
        FeatureRow[] rows = new FeatureRow[request.Rows.Length];
        for (int i = 0; i < rows.Length; i++)
        {
            rows[i] = predictor.NewRow();
            rows[i].Set(request.Rows[i]);
        }

        IReadOnlyList<Prediction> predictions = await predictor.PredictAsync(rows, cancellation);
        return Results.Ok(predictions.Select(prediction => prediction.ToDictionary(task => task.Task, task => (object)(task.Class is null ? task.Value : new { task.Class, task.Classes }))));
    }
    catch (DataException error)
    {
        return Results.Problem(error.Message, statusCode: StatusCodes.Status400BadRequest);
    }
    catch (Exception error) when (error is DeviceException or ObjectDisposedException)
    {
        return Results.Problem(error.Message, statusCode: StatusCodes.Status503ServiceUnavailable);
    }
});
app.Run();
return 0;

internal sealed record PredictRequest(JsonElement[]? Rows);
