using System.CommandLine;
using System.Diagnostics;
using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Cli.Rendering;
using CudaMoE.Data;
using CudaMoE.Serving;
using CudaMoE.Training;

namespace CudaMoE.Cli.Commands;

/// <summary>Predicts all tasks for the rows of a file.</summary>
internal sealed class PredictCommand : CliCommand
{
    private const string StandardOutput = "-";

    private readonly Argument<string> _path = new("CHECKPOINT") { Description = CheckpointLocator.Help };

    private readonly Argument<string> _data = new("DATA.csv") { Description = "Rows to predict, written as the training files are; label columns may be absent" };

    private readonly Option<string> _to = new("--to")
    {
        HelpName = "FILE",
        Description = "Where the predictions go; - is standard output. A row a row: the probability of binary tasks, the number in the label's unit of "
            + "regression tasks, the likeliest class and each class's probability of multi-class tasks",
        DefaultValueFactory = _ => StandardOutput,
    };

    private readonly Option<string[]> _keep = new("--keep") { HelpName = "COLUMN", Description = "A column to copy in front of the predictions, as often as needed" };

    private readonly Option<int> _batch = new("--batch-size") { HelpName = "ROWS", Description = "Rows at a time", DefaultValueFactory = _ => new TrainerOptions().EvaluationBatch };

    private readonly Option<string> _device = DeviceOption();

    public PredictCommand()
        : base(
            "predict",
            "Predict every task for the rows of a file, as CSV.",
            "cudamoe predict runs/census-20260102-030405 new.csv --to predictions.csv",
            "cudamoe predict runs/census-20260102-030405 new.csv --keep user_id | head")
    {
        Add(_path);
        Add(_data);
        Add(_to);
        Add(_keep);
        Add(_batch);
        Add(_device);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        int batch = arguments.GetValue(_batch);
        if (batch < 1)
            throw new UsageException($"--batch-size is {batch}; it must be at least 1");
        string to = arguments.GetRequiredValue(_to);
        if (to == StandardOutput && context.Format == OutputFormat.Json)
            throw new UsageException("predictions and the JSON answer cannot both go to standard output", "--to FILE takes the predictions");
        long started = Stopwatch.GetTimestamp();
        string device = arguments.GetRequiredValue(_device);
        using TrainedModel loaded = CheckpointLocator.Load(arguments.GetRequiredValue(_path), checkpoint => TrainedModel.Open(checkpoint, device, batch));
        string data = arguments.GetRequiredValue(_data);
        string[] keep = arguments.GetValue(_keep) ?? [];
        long rows;
        if (to == StandardOutput)
        {
            rows = new PredictionWriter(loaded, context.Output).Write(data, keep, cancellation);
        }
        else
        {
            to = Path.GetFullPath(to);
            rows = WriteFile(to, writer => new PredictionWriter(loaded, writer).Write(data, keep, cancellation));
        }

        double seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        if (context.Format == OutputFormat.Json)
            context.WriteJson(new() { Checkpoint = loaded.Checkpoint.Folder, File = to, Rows = rows, Seconds = seconds }, CliJson.Default.PredictResult);
        else
            context.Note($"{Texts.Count(rows)} rows in {Texts.Duration(TimeSpan.FromSeconds(seconds))}, checkpoint {loaded.Checkpoint.Folder}");
        return ExitCodes.Ok;
    }

    // A file that was cut short by an error or a cancellation would look like an answer, so it gets its name when it is whole.
    private static long WriteFile(string path, Func<TextWriter, long> write)
    {
        long rows = 0;
        AtomicFile.Write(path, stream =>
        {
            using StreamWriter writer = new(stream, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false), bufferSize: 1 << 16, leaveOpen: true) { NewLine = "\n" };
            rows = write(writer);
        });
        return rows;
    }
}
