using System.CommandLine;
using CudaMoE.Cli.Graphs;
using CudaMoE.Cli.Rendering;
using CudaMoE.Graphs;

namespace CudaMoE.Cli.Commands;

/// <summary>Cuts a log without times into a part for a graph and samples.</summary>
internal sealed class GraphSamplesCommand : CliCommand
{
    private static readonly InteractionSamples Defaults = new() { Log = new() { Sources = [] }, Tasks = [] };

    private readonly LogOptions _log = new();

    private readonly Option<string> _to = new("--to") { HelpName = "FOLDER", Description = "Where graph.csv, train.csv and test.csv are written", Required = true };

    private readonly Option<string[]> _tasks = new("--task") { HelpName = "NAME", Description = "A task: a label column of the files; as often as needed", Required = true };

    private readonly Option<double> _train = new("--train") { HelpName = "PART", Description = "Part of the pairs to train on", DefaultValueFactory = _ => Defaults.TrainFraction };

    private readonly Option<double> _test = new("--test") { HelpName = "PART", Description = "Part of the pairs to test on", DefaultValueFactory = _ => Defaults.TestFraction };

    private readonly Option<int> _negatives = new("--negatives") { HelpName = "N", Description = "Drawn pairs without interaction for each sampled one", DefaultValueFactory = _ => Defaults.Negatives };

    private readonly Option<bool> _popular = new("--popular") { Description = "Draw items as often as they occur in the log, so that popularity tells nothing; else all items alike" };

    private readonly Option<ulong> _seed = new("--seed") { HelpName = "N", Description = "Seed of all draws", DefaultValueFactory = _ => Defaults.Seed };

    public GraphSamplesCommand()
        : base(
            "samples",
            "Cut a log without times at random into pairs for a graph, and samples with drawn negatives to train and test a model on.",
            "cudamoe graph samples --lists cart=cart.txt.gz --lists buy=train.txt.gz --task cart --task buy --to taobao")
    {
        Add(_to);
        Add(_tasks);
        _log.AddTo(this);
        foreach (Option option in new Option[] { _train, _test, _negatives, _popular, _seed })
            Add(option);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        string folder = Path.GetFullPath(arguments.GetRequiredValue(_to));
        InteractionSampleCounts counts = new InteractionSamples
        {
            Log = _log.Of(arguments),
            Tasks = arguments.GetRequiredValue(_tasks),
            TrainFraction = arguments.GetValue(_train),
            TestFraction = arguments.GetValue(_test),
            Negatives = arguments.GetValue(_negatives),
            PopularNegatives = arguments.GetValue(_popular),
            Seed = arguments.GetValue(_seed),
        }.Write(folder, cancellation);
        if (context.Format == OutputFormat.Json)
            context.WriteJson(counts, CliJson.Default.InteractionSampleCounts);
        else
            context.WriteRaw($"{folder}: {Texts.Count(counts.Graph)} pairs for a graph, {Texts.Count(counts.Train)} rows to train and {Texts.Count(counts.Test)} to test on\n");
        return ExitCodes.Ok;
    }
}
