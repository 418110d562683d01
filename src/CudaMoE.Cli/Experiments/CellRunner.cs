using System.Text;
using System.Text.Json;
using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Training;

namespace CudaMoE.Cli.Experiments;

/// <summary>
/// Runs one cell in its folder. A finished cell is kept; one that was broken off goes on from its latest checkpoint, or starts anew where it has none or a damaged one; one
/// whose model has changed since starts anew. What else is wrong, a device that is not there or data that cannot be read, ends the experiment and leaves the cell as it is.
/// </summary>
internal sealed class CellRunner(string folder, ExperimentCell cell, TrainerOptions options)
{
    private string ResultPath => Path.Combine(folder, "cell.json");

    private string ModelPath => Path.Combine(folder, "model.json");

    /// <summary>The result of an earlier run of the same model; null when there is none.</summary>
    public CellResult? Finished()
    {
        if (!File.Exists(ResultPath) || !IsSameModel())
            return null;
        try
        {
            CellResult? result = JsonSerializer.Deserialize(File.ReadAllBytes(ResultPath), ExperimentJson.Default.CellResult);
            return result?.Status == "failed" ? null : result;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    /// <summary>Runs it to its end; null when it was cancelled.</summary>
    public CellResult? Run(ITrainingObserver observer, Action<string> note, CancellationToken cancellation)
    {
        if (Directory.Exists(folder) && !IsSameModel())
        {
            note($"{cell.Name}: the model has changed, starting anew");
            Directory.Delete(folder, recursive: true);
        }

        Directory.CreateDirectory(folder);
        AtomicFile.Write(ModelPath, Encoding.UTF8.GetBytes(DescriptionJson.Write(cell.Model)));
        CellResult result;
        try
        {
            TrainingResult trained = Train(observer, note, cancellation);
            if (trained.Status == RunStatus.Cancelled)
                return null;
            result = Summarise(trained);
        }
        catch (NonFiniteException e)
        {
            result = new() { Model = cell.ModelName, Balancer = cell.Balancer, Seed = cell.Seed, Status = "failed", Message = e.Message };
        }

        AtomicFile.Write(ResultPath, JsonSerializer.SerializeToUtf8Bytes(result, ExperimentJson.Default.CellResult));
        return result;
    }

    private TrainingResult Train(ITrainingObserver observer, Action<string> note, CancellationToken cancellation)
    {
        string runs = Path.Combine(folder, "runs");
        string? last = Directory.Exists(runs) ? Directory.GetDirectories(runs).Order().LastOrDefault() : null;
        if (last is not null && CanGoOn(last, note))
            return Trainer.Resume(last, options, observer, cancellation);
        return Trainer.Train(cell.Model, cell.ModelFolder, options with { RunsFolder = runs }, observer, cancellation);
    }

    private bool CanGoOn(string run, Action<string> note)
    {
        string checkpoints = Path.Combine(run, "checkpoints");
        try
        {
            if (Directory.Exists(checkpoints) && new CheckpointStore(checkpoints).OpenLatest() is not null)
                return true;
        }
        catch (CheckpointFormatException e)
        {
            note($"{cell.Name}: cannot go on ({e.Message}), starting anew; what was trained stays in {run}");
            return false;
        }

        Directory.Delete(run, recursive: true);
        return false;
    }

    private CellResult Summarise(TrainingResult trained)
    {
        IReadOnlyList<RunEvent> events = RunLogReader.Read(RunFolder.Open(trained.RunFolder).MetricsPath);
        RunStartedEvent started = events.OfType<RunStartedEvent>().First();
        double seconds = events.OfType<EpochEvent>().Sum(epoch => epoch.TrainSeconds);
        double rows = events.OfType<EpochEvent>().Sum(epoch => epoch.SamplesPerSecond * epoch.TrainSeconds);
        return new()
        {
            Model = cell.ModelName,
            Balancer = cell.Balancer,
            Seed = cell.Seed,
            Status = trained.Status == RunStatus.EarlyStopped ? "early_stopped" : "completed",
            RunFolder = trained.RunFolder,
            Parameters = started.DenseParameters + started.EmbeddingParameters,
            SamplesPerSecond = seconds > 0 ? rows / seconds : 0,
            Test = trained.Test,
            Pairs = TaskPair.Together(events.OfType<EpochEvent>().SelectMany(epoch => epoch.Pairs ?? [])),
        };
    }

    private bool IsSameModel() => File.Exists(ModelPath) && File.ReadAllText(ModelPath) == DescriptionJson.Write(cell.Model);
}
