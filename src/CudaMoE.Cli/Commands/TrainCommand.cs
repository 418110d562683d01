using System.CommandLine;
using System.Globalization;
using CudaMoE.Description;
using CudaMoE.Training;

namespace CudaMoE.Cli.Commands;

/// <summary>Trains a described model.</summary>
internal sealed class TrainCommand : RunCommand
{
    private readonly Argument<string> _model = new("MODEL.json") { Description = "The model file" };

    private readonly Option<string> _runs = new("--runs")
    {
        HelpName = "FOLDER",
        Description = "Where run folders are made",
        DefaultValueFactory = _ => new TrainerOptions().RunsFolder,
    };

    private readonly Option<int?> _epochs = new("--epochs") { HelpName = "N", Description = "Most epochs, instead of the model file's" };

    private readonly Option<int?> _batch = new("--batch-size") { HelpName = "ROWS", Description = "Rows of a mini-batch, instead of the model file's" };

    private readonly Option<ulong?> _seed = new("--seed") { HelpName = "N", Description = "Seed of weights, shuffling and noise, instead of the model file's" };

    private readonly Option<string[]> _set = new("--set")
    {
        HelpName = "KEY=VALUE",
        Description = "Any other key of the model file by its path, as often as needed, e.g. training.optimizer.learning_rate=0.01 or features.age.transform=log",
    };

    private readonly Option<string?> _parameters = new("--parameters")
    {
        HelpName = "FILE.safetensors",
        Description = "Start from these parameters instead of drawn ones, e.g. those that 'cudamoe import' wrote",
    };

    private readonly Option<bool> _print = new("--print-config") { Description = "Print the model file with every default and override, and train nothing" };

    public TrainCommand()
        : base(
            "train",
            "Train a model, test it, and write a run folder with checkpoints, a log and a report. Ctrl-C saves a checkpoint and stops.",
            "cudamoe train model.json",
            "cudamoe train model.json --epochs 3 --device cpu:threads=8 --set training.balancer.type=mgda",
            "cudamoe train model.json --output json > result.json")
    {
        Add(_model);
        Add(Device);
        Add(_runs);
        Add(_epochs);
        Add(_batch);
        Add(_seed);
        Add(_set);
        Add(_parameters);
        Add(LogEvery);
        Add(KeepCheckpoints);
        Add(NoReport);
        Add(_print);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        string path = arguments.GetRequiredValue(_model);
        ModelDescription description = ModelFile.Load(path, Overrides(arguments));
        if (arguments.GetValue(_print))
        {
            context.WriteRaw(DescriptionJson.Write(description));
            return ExitCodes.Ok;
        }

        string? parameters = arguments.GetValue(_parameters);
        if (parameters is not null && !File.Exists(parameters))
            throw new UsageException($"there is no file {parameters}");
        TrainerOptions options = TrainerOptionsOf(arguments) with { RunsFolder = arguments.GetRequiredValue(_runs), InitialParameters = parameters };
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        return Execute(arguments, context, observer => Trainer.Train(description, folder, options, observer, cancellation));
    }

    private List<KeyValuePair<string, string>> Overrides(ParseResult arguments)
    {
        List<KeyValuePair<string, string>> overrides = ModelFile.Overrides(arguments.GetValue(_set) ?? []);
        Named("training.epochs", arguments.GetValue(_epochs));
        Named("training.batch_size", arguments.GetValue(_batch));
        Named("training.seed", arguments.GetValue(_seed));
        return overrides;

        void Named(string key, IFormattable? value)
        {
            if (value is not null)
                overrides.Add(new(key, value.ToString(null, CultureInfo.InvariantCulture)));
        }
    }
}
