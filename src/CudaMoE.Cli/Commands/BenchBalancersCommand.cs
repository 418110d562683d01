using System.CommandLine;
using System.Text;
using CudaMoE.Benchmarking;
using CudaMoE.Checkpoints;

namespace CudaMoE.Cli.Commands;

/// <summary>Compares what balancers cost and answers with a Markdown table.</summary>
internal sealed class BenchBalancersCommand : CliCommand
{
    private readonly Option<string> _config = new("--config")
    {
        HelpName = "FILE",
        Description = "A reference configuration of model mmoe, see benchmarks/configs",
        Required = true,
    };

    private readonly Option<int[]> _tasks = new("--tasks")
    {
        HelpName = "N ...",
        Description = "Numbers of tasks",
        AllowMultipleArgumentsPerToken = true,
        DefaultValueFactory = _ => [2, 4, 8],
    };

    private readonly Option<int?> _batch = new("--batch") { HelpName = "ROWS", Description = "Samples of a batch; default: the configuration's" };

    private readonly Option<int> _rounds = new("--rounds") { HelpName = "N", Description = "Timed rounds; in each every balancer runs in turn", DefaultValueFactory = _ => 7 };

    private readonly Option<int> _steps = new("--steps") { HelpName = "N", Description = "Training steps of a balancer in a round", DefaultValueFactory = _ => 2 };

    private readonly Option<string?> _html = new("--html") { HelpName = "FILE", Description = "Write a page with a plot, too" };

    private readonly Option<string> _device = DeviceOption();

    public BenchBalancersCommand()
        : base(
            "balancers",
            "Time training steps with equal weights, MultiBalance, and balancers of the gradients of shared parameters, in turns, and answer with a "
                + "Markdown table: samples a second of equal weights, and the others' ratios to it in the same round, median and range.",
            "cudamoe bench balancers --config benchmarks/configs/mmoe.json --tasks 2 4 8")
    {
        Add(_config);
        Add(_tasks);
        Add(_batch);
        Add(_rounds);
        Add(_steps);
        Add(_html);
        Add(_device);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        int[] tasks = arguments.GetRequiredValue(_tasks);
        if (tasks.Length == 0 || tasks.Any(count => count is < 2 or > 64))
            throw new UsageException($"--tasks {string.Join(' ', tasks)}: each must be from 2 to 64", null);
        int? batch = arguments.GetValue(_batch);
        if (batch is < 1 or > 1 << 20)
            throw new UsageException($"--batch {batch}: it must be from 1 to {1 << 20}", null);
        int rounds = arguments.GetRequiredValue(_rounds);
        if (rounds is < 3 or > 10_000)
            throw new UsageException($"--rounds {rounds}: it must be from 3 to 10000", null);
        int steps = arguments.GetRequiredValue(_steps);
        if (steps is < 1 or > 10_000)
            throw new UsageException($"--steps {steps}: it must be from 1 to 10000", null);
        BenchmarkConfig config = BenchmarkConfig.Load(arguments.GetRequiredValue(_config));
        if (config.Model != "mmoe")
            throw new UsageException($"--config: its model is {config.Model}; balancers are compared on mmoe", null);
        IReadOnlyList<BalancerCost> costs = BalancerBenchmark.Run(
            config, new() { Device = arguments.GetRequiredValue(_device), Tasks = tasks, Batch = batch, Rounds = rounds, Steps = steps });
        if (context.Format == OutputFormat.Json)
            context.WriteJson(new() { Costs = costs }, CliJson.Default.BalancerCostResult);
        else
            context.WriteRaw(BalancerCostReport.Markdown(costs));
        if (arguments.GetValue(_html) is { } path)
            AtomicFile.Write(path, Encoding.UTF8.GetBytes(BalancerCostReport.Html(costs, $"Cost of balancing, {config.Name}, batch {batch ?? config.Batch}")));
        return ExitCodes.Ok;
    }
}
