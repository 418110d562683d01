using System.Diagnostics;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;
using CudaMoE.Tensors;
using CudaMoE.Training;

namespace CudaMoE.Benchmarking;

/// <summary>Options of <see cref="BalancerBenchmark"/>.</summary>
public sealed record BalancerBenchmarkOptions
{
    /// <summary>The device.</summary>
    public string Device { get; init; } = "cpu";

    /// <summary>Numbers of tasks, each at least 2.</summary>
    public IReadOnlyList<int> Tasks { get; init; } = [2, 4, 8];

    /// <summary>Samples of a batch; null = the configuration's.</summary>
    public int? Batch { get; init; }

    /// <summary>Timed rounds, at least 3; in each every balancer runs in turn.</summary>
    public int Rounds { get; init; } = 7;

    /// <summary>Training steps of a balancer in a round, at least 1.</summary>
    public int Steps { get; init; } = 2;
}

/// <summary>What a balancer cost with a number of tasks.</summary>
/// <param name="Name">Type and place.</param>
/// <param name="Tasks">Tasks of the model.</param>
/// <param name="SamplesPerSecond">Training samples a second, the median of the rounds.</param>
/// <param name="Ratio">Samples a second beside equal weights in the same round: the median of the rounds.</param>
/// <param name="Least">The least such ratio.</param>
/// <param name="Most">The greatest such ratio.</param>
public sealed record BalancerCost(string Name, int Tasks, double SamplesPerSecond, double Ratio, double Least, double Most);

/// <summary>
/// Times training steps with equal weights, MultiBalance at its two places, and balancers of the gradients of shared parameters, for several numbers of tasks of one configuration.
/// All balancers run in turns in one process, and what is compared are ratios within a round, so that what else the machine does meets all of them.
/// </summary>
public static class BalancerBenchmark
{
    private const int Batches = 4;

    private static readonly BalancerDescription[] Balancers =
    [
        new(),
        new() { Type = BalancerType.MultiBalance },
        new() { Type = BalancerType.MultiBalance, Place = RepresentationPlace.TrunkInput },
        new() { Type = BalancerType.MultiBalance, Place = RepresentationPlace.SharedParameters },
        new() { Type = BalancerType.Mgda, Place = RepresentationPlace.SharedParameters },
        new() { Type = BalancerType.Pcgrad, Place = RepresentationPlace.SharedParameters },
        new() { Type = BalancerType.Cagrad, Place = RepresentationPlace.SharedParameters },
    ];

    /// <summary>Names of what is compared, equal weights first.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. Balancers.Select(Name)];

    /// <summary>Runs it: for each number of tasks one result a name, in the order of <see cref="Names"/>.</summary>
    /// <exception cref="ArgumentException">An option is out of its range, or the configuration has no experts.</exception>
    public static IReadOnlyList<BalancerCost> Run(BenchmarkConfig config, BalancerBenchmarkOptions options)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Rounds, 3, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Steps, 1, nameof(options));
        if (config.Model != "mmoe")
            throw new ArgumentException($"the configuration's model is {config.Model}; balancers are compared on mmoe", nameof(config));
        if (options.Tasks.Count == 0 || options.Tasks.Any(tasks => tasks is < 2 or > 64))
            throw new ArgumentException($"tasks is [{string.Join(", ", options.Tasks)}]; it must name numbers from 2 to 64", nameof(options));
        return [.. options.Tasks.SelectMany(tasks => Compare(config with { Tasks = tasks }, options))];
    }

    private static IEnumerable<BalancerCost> Compare(BenchmarkConfig config, BalancerBenchmarkOptions options)
    {
        int rows = options.Batch ?? config.Batch;
        BatchLayout layout = config.Layout();
        using Device device = Device.Open(options.Device);
        Batch[] batches = [.. Enumerable.Range(0, Batches).Select(i => BenchmarkData.Create(config, layout, rows, i))];
        List<MultiTaskModel> models = [];
        try
        {
            List<TrainingStep> steps = [];
            foreach (BalancerDescription balancer in Balancers)
            {
                models.Add(new(device, config.Describe(Precision.F32, balancer), layout, [.. Enumerable.Repeat(1, config.Tasks)], rows, training: true));
                steps.Add(new(models[^1], 1_000_000));
            }

            double[][] seconds = [.. Balancers.Select(_ => new double[options.Rounds])];
            long done = 0;
            for (int round = -1; round < options.Rounds; round++)
            {
                for (int i = 0; i < steps.Count; i++)
                {
                    long started = Stopwatch.GetTimestamp();
                    for (int step = 0; step < options.Steps; step++)
                        steps[i].Run(batches[(done + step) % Batches], done + step + 1);
                    steps[i].Finish();
                    // The first round loads what the others use.
                    if (round >= 0)
                        seconds[i][round] = Stopwatch.GetElapsedTime(started).TotalSeconds;
                }

                done += options.Steps;
            }

            return [.. Balancers.Select((balancer, i) => Cost(Name(balancer), config.Tasks, (double)rows * options.Steps, seconds[i], seconds[0]))];
        }
        finally
        {
            foreach (MultiTaskModel model in models)
                model.Dispose();
            foreach (Batch batch in batches)
                batch.Dispose();
        }
    }

    private static BalancerCost Cost(string name, int tasks, double samples, double[] seconds, double[] equal)
    {
        double[] ratios = [.. seconds.Select((own, round) => equal[round] / own).Order()];
        return new(name, tasks, samples / Median([.. seconds.Order()]), Median(ratios), ratios[0], ratios[^1]);
    }

    private static double Median(double[] ascending) => (ascending[(ascending.Length - 1) / 2] + ascending[ascending.Length / 2]) / 2;

    private static string Name(BalancerDescription balancer) =>
        balancer.Type == BalancerType.Equal ? "equal" : $"{RunFacts.SnakeCase(balancer.Type)}, {RunFacts.SnakeCase(balancer.Place)}";
}
