using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Serialization;
using CudaMoE.Benchmarking;
using CudaMoE.Description;

namespace CudaMoE.Cli.Commands;

/// <summary>Measures; the work is in its subcommands.</summary>
internal sealed class BenchCommand : CliCommand
{
    public BenchCommand()
        : base("bench", "Measure the engine on this machine.", "cudamoe bench model --config benchmarks/configs/mmoe.json")
    {
        Add(new BenchModelCommand());
        Add(new BenchBalancersCommand());
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation) =>
        throw new UsageException("bench needs to know what to measure", "cudamoe bench model --config FILE times a reference configuration");
}

/// <summary>Times a reference configuration and answers with one JSON line.</summary>
internal sealed class BenchModelCommand : CliCommand
{
    private readonly Option<string> _config = new("--config")
    {
        HelpName = "FILE",
        Description = "A reference configuration, see benchmarks/configs",
        Required = true,
    };

    private readonly Option<string> _mode = new Option<string>("--mode")
    {
        HelpName = "training|inference",
        Description = "Whole training steps, or forward passes with their look-ups",
        DefaultValueFactory = _ => "training",
    }.AcceptOnlyFromAmong("training", "inference");

    private readonly Option<int?> _batch = new("--batch") { HelpName = "ROWS", Description = "Samples of a batch; default: the configuration's" };

    private readonly Option<string> _precision = new Option<string>("--precision")
    {
        HelpName = "f32|bf16",
        Description = "Type of the operands of matrix products",
        DefaultValueFactory = _ => "f32",
    }.AcceptOnlyFromAmong("f32", "bf16");

    private readonly Option<string> _balancer = new Option<string>("--balancer")
    {
        HelpName = "equal|mgda|multi_balance",
        Description = "How task gradients are balanced in a training step",
        DefaultValueFactory = _ => "equal",
    }.AcceptOnlyFromAmong("equal", "mgda", "multi_balance");

    private readonly Option<bool> _captured = new("--captured") { Description = "In inference: forward passes from captures, one call each" };

    private readonly Option<double> _seconds = new("--seconds") { HelpName = "N", Description = "Seconds of timed runs, at least", DefaultValueFactory = _ => 3 };

    private readonly Option<string> _device = DeviceOption();

    public BenchModelCommand()
        : base(
            "model",
            "Time a reference configuration and answer with one JSON line: median, 99th percentile, samples a second, GFLOP/s, and their share of the "
                + "f32 FMA peak measured in the same run.",
            "cudamoe bench model --config benchmarks/configs/mmoe.json",
            "cudamoe bench model --config benchmarks/configs/mmoe.json --mode inference --batch 16")
    {
        Add(_config);
        Add(_mode);
        Add(_batch);
        Add(_precision);
        Add(_balancer);
        Add(_captured);
        Add(_seconds);
        Add(_device);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        int? batch = arguments.GetValue(_batch);
        if (batch is < 1 or > 1 << 20)
            throw new UsageException($"--batch {batch}: it must be from 1 to {1 << 20}", null);
        double seconds = arguments.GetRequiredValue(_seconds);
        if (!(seconds is > 0 and <= 3600))
            throw new UsageException($"--seconds {seconds}: it must be above 0 and at most 3600", null);
        if (arguments.GetValue(_captured) && arguments.GetValue(_mode) == "training")
            throw new UsageException("--captured is for --mode inference: a training step's numbers change", null);
        ModelBenchmarkResult result = ModelBenchmark.Run(BenchmarkConfig.Load(arguments.GetRequiredValue(_config)), new()
        {
            Device = arguments.GetRequiredValue(_device),
            Mode = arguments.GetValue(_mode) == "training" ? BenchmarkMode.Training : BenchmarkMode.Inference,
            Captured = arguments.GetValue(_captured),
            Batch = batch,
            Precision = arguments.GetValue(_precision) == "bf16" ? Precision.Bf16 : Precision.F32,
            Balancer = arguments.GetValue(_balancer) switch
            {
                "mgda" => BalancerType.Mgda,
                "multi_balance" => BalancerType.MultiBalance,
                _ => BalancerType.Equal,
            },
            Seconds = seconds,
        });
        context.WriteRaw(JsonSerializer.Serialize(result, BenchJson.Default.ModelBenchmarkResult) + "\n");
        return ExitCodes.Ok;
    }
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    UseStringEnumConverter = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(ModelBenchmarkResult))]
internal sealed partial class BenchJson : JsonSerializerContext;
