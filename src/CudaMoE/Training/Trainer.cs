using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Graphs;
using CudaMoE.Models;
using CudaMoE.Tensors;

namespace CudaMoE.Training;

/// <summary>
/// Trains a described model on its data: epochs over shuffled mini-batches, validation, early stopping, checkpoints, a log and a final test. A
/// run that was killed goes on from its latest checkpoint and ends with the same bits.
/// </summary>
public static class Trainer
{
    /// <summary>Starts a run.</summary>
    /// <param name="description">The model, with data.</param>
    /// <param name="baseFolder">Where the data's relative paths start: the model file's folder.</param>
    /// <param name="options">Device and folders.</param>
    /// <param name="observer">Is told what happens; null = nobody.</param>
    /// <param name="cancellation">Saves a checkpoint and ends the run.</param>
    /// <exception cref="CudaMoEException">Description, data, device or training failed; the message says what to do.</exception>
    public static TrainingResult Train(
        ModelDescription description,
        string baseFolder,
        TrainerOptions? options = null,
        ITrainingObserver? observer = null,
        CancellationToken cancellation = default)
    {
        options ??= new();
        observer ??= new SilentObserver();
        description = Rooted(description, baseFolder);
        DescriptionValidator.Validate(description);
        using Device device = Device.Open(options.Device);
        using Dataset dataset = OpenData(description, baseFolder, encoders: null, observer, cancellation);
        using MultiTaskModel model = CreateModel(description, dataset, device, options);
        if (description.Data?.Graph is { } path)
        {
            using MacroGraph graph = MacroGraph.Open(path, progress: null, cancellation);
            model.LoadMacroWeights(graph, dataset.Encoders);
        }

        if (options.InitialParameters is { } parameters)
        {
            using SafetensorsReader weights = SafetensorsReader.Open(parameters);
            ModelCheckpoint.LoadWeights(model, weights);
        }

        // All that can be wrong with the input has been seen: what is refused leaves no run behind.
        RunFolder folder = RunFolder.Create(options.RunsFolder, description.Name);
        using FileStream held = folder.Hold();
        AtomicFile.Write(folder.ModelPath, Encoding.UTF8.GetBytes(DescriptionJson.Write(description)));
        using RunLog log = RunLog.Create(folder.MetricsPath);
        return new TrainingRun(description, dataset, device, model, folder, log, options, observer).Start(cancellation);
    }

    /// <summary>Goes on with a run from its latest checkpoint.</summary>
    /// <param name="runFolder">The run's folder.</param>
    /// <param name="options">Device; the folder of runs is not used.</param>
    /// <param name="observer">Is told what happens; null = nobody.</param>
    /// <param name="cancellation">Saves a checkpoint and ends the run.</param>
    /// <exception cref="CudaMoEException">The run has no checkpoint, or its files were altered, or training failed.</exception>
    public static TrainingResult Resume(
        string runFolder,
        TrainerOptions? options = null,
        ITrainingObserver? observer = null,
        CancellationToken cancellation = default)
    {
        options ??= new();
        observer ??= new SilentObserver();
        RunFolder folder = RunFolder.Open(runFolder);
        using FileStream held = folder.Hold();
        CheckpointFolder checkpoint = new CheckpointStore(folder.CheckpointsPath, options.KeepCheckpoints).OpenLatest()
            ?? throw new CudaMoEException($"{runFolder} has no checkpoint to go on from; start the run anew");
        ModelDescription description = DescriptionJson.Load(checkpoint.ModelPath);
        FittedEncoders encoders = FittedEncoders.Load(checkpoint.EncodersPath ?? throw new CudaMoEException($"{checkpoint.Folder} has no encoders; it was not made by a training run"));
        using Device device = Device.Open(options.Device);
        using Dataset dataset = OpenData(description, folder.Path, encoders, observer, cancellation);
        using MultiTaskModel model = CreateModel(description, dataset, device, options);
        using RunLog log = RunLog.Resume(folder.MetricsPath, checkpoint.State.Step);
        return new TrainingRun(description, dataset, device, model, folder, log, options, observer).Resume(checkpoint, cancellation);
    }

    private static MultiTaskModel CreateModel(ModelDescription description, Dataset dataset, Device device, TrainerOptions options) => new(
        device,
        description,
        dataset.Layout,
        [.. dataset.Encoders.Tasks.Select(t => t.Outputs)],
        Math.Max(description.Training.BatchSize, options.EvaluationBatch),
        training: true);

    /// <summary>Opens the data of a description and reports the building of its cache and the notices.</summary>
    internal static Dataset OpenData(ModelDescription description, string baseFolder, FittedEncoders? encoders, ITrainingObserver observer, CancellationToken cancellation)
    {
        Dataset data = Dataset.Open(
            description,
            baseFolder,
            encoders,
            progress => observer.OnDataProgress(new(
                progress.Stage.ToString().ToLowerInvariant(),
                progress.File,
                progress.Rows,
                progress.Length == 0 ? 1 : (double)progress.BytesRead / progress.Length)),
            cancellation);
        foreach (string notice in data.Notices)
            observer.OnNotice(notice);
        return data;
    }

    /// <summary>The description with full paths, so that a checkpoint can be used from any folder.</summary>
    internal static ModelDescription Rooted(ModelDescription description, string baseFolder)
    {
        if (description.Data is not { } data)
            throw new DescriptionException("data is missing; training needs it");
        string root = Path.GetFullPath(baseFolder);
        return description with
        {
            Data = data with
            {
                Train = [.. data.Train.Select(Full)],
                Validation = [.. data.Validation.Select(Full)],
                Test = [.. data.Test.Select(Full)],
                Graph = data.Graph is { } graph ? Full(graph) : null,
                Cache = Path.GetFullPath(data.Cache ?? ".cudamoe-cache", root),
            },
        };

        string Full(string path) => Path.GetFullPath(path, root);
    }

    private sealed class SilentObserver : ITrainingObserver;
}
