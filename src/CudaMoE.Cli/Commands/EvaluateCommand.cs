using System.CommandLine;
using CudaMoE.Cli.Rendering;
using CudaMoE.Data;
using CudaMoE.Serving;
using CudaMoE.Training;

namespace CudaMoE.Cli.Commands;

/// <summary>Measures a checkpoint on labelled rows.</summary>
internal sealed class EvaluateCommand : CliCommand
{
    private readonly Argument<string> _path = new("CHECKPOINT") { Description = CheckpointLocator.Help };

    private readonly Option<string> _split = new Option<string>("--split")
    {
        HelpName = "test|validation|train",
        Description = "Rows of the model's own data to measure on",
        DefaultValueFactory = _ => "test",
    }.AcceptOnlyFromAmong("test", "validation", "train");

    private readonly Option<string?> _data = new("--data") { HelpName = "FILE", Description = "A file of labelled rows instead, written as the training files are" };

    private readonly Option<int> _batch = new("--batch-size") { HelpName = "ROWS", Description = "Rows at a time", DefaultValueFactory = _ => new TrainerOptions().EvaluationBatch };

    private readonly Option<string> _device = DeviceOption();

    public EvaluateCommand()
        : base(
            "evaluate",
            "Measure a trained model on labelled rows: metrics per task.",
            "cudamoe evaluate runs/census-20260102-030405",
            "cudamoe evaluate runs/census-20260102-030405/checkpoints/000004-step-624 --data new.csv --output json")
    {
        Add(_path);
        Add(_split);
        Add(_data);
        Add(_batch);
        Add(_device);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        int rows = arguments.GetValue(_batch);
        if (rows < 1)
            throw new UsageException($"--batch-size is {rows}; it must be at least 1");
        string? file = arguments.GetValue(_data);
        if (file is not null && arguments.GetResult(_split) is { Implicit: false })
            throw new UsageException("--data and --split exclude each other");
        string device = arguments.GetRequiredValue(_device);
        using TrainedModel loaded = CheckpointLocator.Load(arguments.GetRequiredValue(_path), checkpoint => TrainedModel.Open(checkpoint, device, rows));
        TrainingView view = new(context);
        Evaluation evaluation = view.Show(() => file is null ? OfSplit(loaded, arguments.GetRequiredValue(_split), view, cancellation) : OfFile(loaded, file, cancellation));
        IReadOnlyList<TaskMetrics> metrics = LoggedMetrics.Of(evaluation.Metrics);
        if (context.Format == OutputFormat.Json)
        {
            EvaluateResult result = new()
            {
                Checkpoint = loaded.Checkpoint.Folder,
                Rows = evaluation.Rows,
                Seconds = evaluation.Seconds,
                Metrics = metrics,
                Calibration = LoggedMetrics.Calibration(evaluation.Metrics),
            };
            context.WriteJson(result, CliJson.Default.EvaluateResult);
            return ExitCodes.Ok;
        }

        MetricsTable.Write(context, metrics);
        context.Note($"{Texts.Count(evaluation.Rows)} rows of {file ?? arguments.GetValue(_split)} in {Texts.Duration(TimeSpan.FromSeconds(evaluation.Seconds))}, checkpoint {loaded.Checkpoint.Folder}");
        return ExitCodes.Ok;
    }

    private static Evaluation OfSplit(TrainedModel loaded, string name, TrainingView view, CancellationToken cancellation)
    {
        if (loaded.Description.Data is null)
            throw new UsageException($"the model of {loaded.Checkpoint.Folder} has no data of its own", "--data FILE names rows to measure on");
        using Dataset data = Dataset.Open(
            loaded.Description,
            loaded.Checkpoint.Folder,
            loaded.Encoders,
            p => view.OnDataProgress(new(p.Stage.ToString().ToLowerInvariant(), p.File, p.Rows, p.Length == 0 ? 1 : (double)p.BytesRead / p.Length)),
            cancellation);
        foreach (string notice in data.Notices)
            view.OnNotice(notice);
        DatasetSplit? split = name switch
        {
            "train" => data.Train,
            "validation" => data.Validation,
            _ => data.Test,
        };
        return split is { Rows: > 0 }
            ? Evaluator.Evaluate(loaded.Model, split, loaded.Encoders, view, cancellation)
            : throw new UsageException($"the model's data has no {name} rows", "--split names another split, --data a file");
    }

    private static Evaluation OfFile(TrainedModel loaded, string file, CancellationToken cancellation)
    {
        using PredictionReader reader = Dataset.OpenForPrediction(loaded.Encoders, file, withLabels: true);
        return Evaluator.Evaluate(loaded.Model, reader, loaded.Encoders, cancellation);
    }
}
