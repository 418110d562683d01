using CudaMoE.Training;

namespace CudaMoE.Tests.Training;

/// <summary>A run log as a trainer would write it, with invented but plausible numbers; the same seed gives the same events.</summary>
internal static class RunLogScript
{
    public static List<RunEvent> Events(IReadOnlyList<string> tasks, int experts = 8, int epochs = 5, int stepsPerEpoch = 156, int every = 4, string name = "census-mmoe")
    {
        Random random = new(7);
        DateTimeOffset time = new(2026, 5, 6, 7, 8, 9, TimeSpan.Zero);
        List<RunEvent> events =
        [
            new RunStartedEvent
            {
                Step = 0, Time = time, Name = name, Version = "0.1.0", Device = "cpu: Example 9000", Level = "avx512bf16", Threads = 2,
                Architecture = "mmoe", Tasks = tasks, Experts = experts, DenseParameters = 184_325, EmbeddingParameters = 9_216, TrainRows = 159_619,
                ValidationRows = 39_904, TestRows = 99_762, BatchSize = 1024, Epochs = epochs, StepsPerEpoch = stepsPerEpoch, Seed = 1,
                Balancer = "multi_balance", BalancerPlace = "tower_input",
            },
        ];
        long step = 0;
        for (int epoch = 1; epoch <= epochs; epoch++)
        {
            for (int i = 0; i < stepsPerEpoch; i++)
            {
                if (++step % every == 0)
                    events.Add(Step(random, tasks.Count, experts, epoch, step));
            }

            events.Add(new EpochEvent
            {
                Step = step,
                Epoch = epoch,
                TrainLosses = [.. tasks.Select((_, t) => Loss(t, step))],
                Validation = Metrics(random, tasks, epoch),
                Score = 0.9,
                Best = epoch == epochs - 1,
                TrainSeconds = 4.2,
                ValidationSeconds = 0.6,
                SamplesPerSecond = 38_000,
            });
            events.Add(new CheckpointEvent { Step = step, Path = $"checkpoints/step-{step:D8}", Best = epoch == epochs - 1 });
        }

        events.Add(Gates(random, tasks, experts, step));
        events.Add(new CalibrationEvent { Step = step, Split = "test", Tasks = [.. tasks.Select((task, t) => Calibration(random, task, t))] });
        events.Add(new TestEvent { Step = step, Epoch = epochs - 1, Metrics = Metrics(random, tasks, epochs), Seconds = 1.5 });
        events.Add(new RunEndedEvent { Step = step, Status = RunStatus.Completed, Seconds = 31.4 });
        return events;
    }

    private static double Loss(int task, long step) => 0.15 + (0.1 * task) + (0.5 * Math.Exp(-step / 150.0));

    private static StepEvent Step(Random random, int tasks, int experts, int epoch, long step)
    {
        double[] load = [.. Enumerable.Range(0, experts).Select(e => 1 + (0.5 * Math.Sin(e + (step / 200.0))))];
        double[] lambda = [.. Enumerable.Range(0, tasks).Select(t => 1 + (0.4 * Math.Sin(t + (step / 100.0))))];
        return new()
        {
            Step = step,
            Epoch = epoch,
            SamplesPerSecond = 38_000 + (2_000 * random.NextDouble()),
            LearningRate = 1e-3 * Math.Min(1, step / 100.0),
            Losses = [.. Enumerable.Range(0, tasks).Select(t => Loss(t, step) + (0.06 * (random.NextDouble() - 0.5)))],
            Weights = [.. lambda.Select(l => l * tasks / lambda.Sum())],
            Lambda = [.. lambda.Select(l => l / lambda.Sum())],
            GradientNorms = [.. Enumerable.Range(0, tasks).Select(t => 0.01 * (t + 1) * Math.Exp(-step / 400.0) * (0.8 + (0.4 * random.NextDouble())))],
            Cosines = [.. Enumerable.Range(0, tasks * tasks).Select(i => i / tasks == i % tasks ? 1 : 0.4 * Math.Sin((i / tasks) + (i % tasks) + (step / 300.0)))],
            GradientNorm = 0.3,
            DroppedRows = random.Next(20),
            ExpertLoad = [.. load.Select(l => l / load.Sum())],
        };
    }

    private static List<TaskMetrics> Metrics(Random random, IReadOnlyList<string> tasks, int epoch) =>
    [
        .. tasks.Select((task, t) => new TaskMetrics
        {
            Task = task, Rows = 39_904,
            Metrics =
            [
                MetricValue.Of("auc", 0.95 - (0.03 * t) - (0.1 * Math.Exp(-epoch)) + (0.001 * random.NextDouble())), MetricValue.Of("log_loss", Loss(t, 156 * epoch)),
                MetricValue.Of("ne", 0.6 + (0.1 * t)), MetricValue.Of("calibration", 1.01), MetricValue.NotDefined("gauc", "no group column"),
            ],
        }),
    ];

    private static GatesEvent Gates(Random random, IReadOnlyList<string> tasks, int experts, long step)
    {
        double[] weights = [.. tasks.SelectMany(_ => Simplex(random, experts))];
        return new()
        {
            Step = step,
            Split = "test",
            Gates = tasks,
            Experts = experts,
            MeanWeights = weights,
            ExpertLoad = [.. Enumerable.Range(0, experts).Select(e => tasks.Select((_, t) => weights[(t * experts) + e]).Average())],
        };
    }

    private static double[] Simplex(Random random, int size)
    {
        double[] raw = [.. Enumerable.Range(0, size).Select(_ => Math.Pow(random.NextDouble(), 2) + 0.02)];
        return [.. raw.Select(r => r / raw.Sum())];
    }

    private static TaskCalibration Calibration(Random random, string task, int t) => new()
    {
        Task = task,
        Bins = [.. Enumerable.Range(0, 12).Select(b => new CalibrationBin((b + 0.5) / 12 / (t + 1), Math.Clamp(((b + 0.5) / 12 / (t + 1)) + (0.04 * (random.NextDouble() - 0.5)), 0, 1), 40_000 / ((b * b) + 1)))],
    };
}
