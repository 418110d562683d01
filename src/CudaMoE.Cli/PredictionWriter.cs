using System.Globalization;
using System.Text;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Serving;

namespace CudaMoE.Cli;

/// <summary>Streams the predictions of a file's rows as CSV, in order.</summary>
internal sealed class PredictionWriter(TrainedModel loaded, TextWriter output)
{
    private readonly float[][] _values = [.. loaded.Model.Outputs.Select(n => new float[n * loaded.Model.MaxRows])];
    private readonly float[]?[] _conditional = [.. loaded.Encoders.Tasks.Select(t => t.Description.Given == null ? null : new float[loaded.Model.MaxRows])];

    /// <summary>Predicts every row of a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="keep">Columns of it to copy in front.</param>
    /// <param name="cancellation">Stops between two batches.</param>
    /// <returns>The number of rows.</returns>
    public long Write(string path, IReadOnlyList<string> keep, CancellationToken cancellation)
    {
        using PredictionReader reader = Dataset.OpenForPrediction(loaded.Encoders, path);
        // Kept columns are not part of what the model reads, so they come from a reader of their own that goes along row by row.
        using DelimitedReader? source = keep.Count == 0 ? null : new(path, loaded.Encoders.Format);
        int[] kept = [.. keep.Select(column => source!.IndexOf(column, "--keep"))];
        output.WriteLine(string.Join(',', keep.Concat(Columns()).Select(Quote)));
        using Batch batch = new(reader.Layout, loaded.Model.MaxRows);
        StringBuilder line = new();
        while (reader.Read(batch))
        {
            cancellation.ThrowIfCancellationRequested();
            loaded.Model.Forward(batch);
            loaded.Model.Stream.Synchronize();
            for (int task = 0; task < _values.Length; task++)
            {
                Predictions.Read(loaded.Model, task, _values[task]);
                if (_conditional[task] is { } conditional)
                    Predictions.ReadConditional(loaded.Model, task, conditional);
            }

            for (int row = 0; row < batch.Rows; row++)
            {
                line.Clear();
                if (source is not null && source.Read())
                {
                    foreach (int column in kept)
                        line.Append(Quote(Encoding.UTF8.GetString(source.Field(column)))).Append(',');
                }

                AppendTasks(line, row);
                output.WriteLine(line);
            }
        }

        output.Flush();
        return reader.Rows;
    }

    private IEnumerable<string> Columns() => loaded.Encoders.Tasks.SelectMany(task => task.Classes is { } classes
        ? classes.Select(c => $"{task.Description.Name}={c}").Prepend(task.Description.Name)
        : task.Description.Given is { } given ? [task.Description.Name, $"{task.Description.Name}|{given}"] : [task.Description.Name]);

    private void AppendTasks(StringBuilder line, int row)
    {
        for (int task = 0; task < _values.Length; task++)
        {
            FittedTask fitted = loaded.Encoders.Tasks[task];
            ReadOnlySpan<float> values = _values[task].AsSpan(row * fitted.Outputs, fitted.Outputs);
            if (task > 0)
                line.Append(',');
            if (fitted.Classes is { } classes)
            {
                line.Append(Quote(classes[System.Numerics.Tensors.TensorPrimitives.IndexOfMax(values)]));
                foreach (float value in values)
                    line.Append(',').Append(CultureInfo.InvariantCulture, $"{value}");
            }
            else if (fitted.Description.Type == TaskType.Regression)
            {
                line.Append(CultureInfo.InvariantCulture, $"{(float)fitted.Restore(values[0])}");
            }
            else
            {
                line.Append(CultureInfo.InvariantCulture, $"{values[0]}");
                if (_conditional[task] is { } conditional)
                    line.Append(',').Append(CultureInfo.InvariantCulture, $"{conditional[row]}");
            }
        }
    }

    private static string Quote(string text) =>
        text.AsSpan().IndexOfAny(",\"\r\n") < 0 ? text : $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
