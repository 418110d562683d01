using System.Globalization;
using System.Text;
using CudaMoE.Description;
using CudaMoE.Tests.Support;
using CudaMoE.Training;
using Xunit.Abstractions;

namespace CudaMoE.Tests.Training;

/// <summary>A small data set with a pattern to learn, and models to learn it.</summary>
internal static class TrainingFixture
{
    /// <summary>Writes train.csv and test.csv.</summary>
    public static void WriteData(string folder, int rows = 1500, bool withInfinity = false)
    {
        Random random = new(17);
        foreach ((string name, int count) in new[] { ("train.csv", rows), ("test.csv", rows / 3) })
        {
            StringBuilder text = new("user,tags,age,click,like,watch\n");
            for (int row = 0; row < count; row++)
            {
                int user = random.Next(20);
                string tags = string.Join('|', Enumerable.Range(0, random.Next(4)).Select(_ => $"t{random.Next(6)}"));
                double age = 20 + (random.NextDouble() * 40);
                double signal = (user % 5) - 2 + ((age - 40) / 15) + (random.NextDouble() - 0.5);
                string ageText = withInfinity && row == count / 2 ? "1e38" : age.ToString("0.###", CultureInfo.InvariantCulture);
                text.Append(CultureInfo.InvariantCulture, $"u{user},{tags},{ageText},{(signal > 0 ? 1 : 0)},{(signal > 1 ? 1 : 0)},{signal * 10:0.##}\n");
            }

            File.WriteAllText(Path.Combine(folder, name), text.ToString());
        }
    }

    public static ModelDescription Describe(TrainingDescription training, GateDescription? gate = null) => new()
    {
        Name = "small",
        Data = new() { Train = ["train.csv"], Test = ["test.csv"], ValidationSplit = new() { Fraction = 0.2 } },
        Features =
        [
            new() { Name = "user", Type = FeatureType.Categorical, Dimension = 6 },
            new() { Name = "tags", Type = FeatureType.MultiHot, Dimension = 4 },
            new() { Name = "age", Type = FeatureType.Dense },
        ],
        Tasks =
        [
            new() { Name = "click", Type = TaskType.Binary },
            new() { Name = "like", Type = TaskType.Binary, Mask = new() { Column = "click", In = ["1"] } },
            new() { Name = "watch", Type = TaskType.Regression, Transform = LabelTransform.Standardize },
        ],
        Architecture = new()
        {
            Type = ModelType.Mmoe,
            Projection = 16,
            Experts = new() { Count = 4, Layers = [8] },
            Gate = gate ?? new(),
            Tower = [6],
        },
        Training = training,
    };

    /// <summary>A run of some seconds: shorter on the executor.</summary>
    public static TrainingDescription Training(string device, BalancerType balancer = BalancerType.Equal) => new()
    {
        BatchSize = device == TestDevices.Simt ? 150 : 64,
        Epochs = device == TestDevices.Simt ? 1 : 3,
        Seed = 3,
        Optimizer = new() { LearningRate = 0.01f },
        ClipNorm = 5,
        Schedule = new() { Type = ScheduleType.Cosine, WarmupSteps = 5 },
        Balancer = new() { Type = balancer },
        CheckpointSteps = 7,
    };

    public static TrainerOptions Options(string folder, string device) => new() { Device = device, RunsFolder = Path.Combine(folder, "runs"), LogEvery = 5 };

    /// <summary>All tensors of a run's latest checkpoint as bytes.</summary>
    public static byte[] LatestWeights(string runFolder)
    {
        CudaMoE.Checkpoints.CheckpointFolder checkpoint = new CudaMoE.Checkpoints.CheckpointStore(Path.Combine(runFolder, "checkpoints")).OpenLatest()!;
        return [.. File.ReadAllBytes(checkpoint.WeightsPath), .. File.ReadAllBytes(checkpoint.OptimizerPath!)];
    }

    /// <summary>A run that is cancelled at a random step and resumed ends with the weights of an unbroken one, bit for bit.</summary>
    public static void CheckResume(ModelDescription description, string folder, string device, ITestOutputHelper output, Action? beforeResume = null, string? resumeOn = null)
    {
        TrainingResult whole = Trainer.Train(description, folder, Options(folder, device));
        int stopAt = Random.Shared.Next(1, (int)whole.Steps);
        output.WriteLine($"cancelled after step {stopAt} of {whole.Steps}");
        using CancellationTokenSource source = new();
        TrainingResult part = Trainer.Train(description, folder, Options(folder, device), new StopAt(stopAt, source), source.Token);
        Assert.Equal(RunStatus.Cancelled, part.Status);
        beforeResume?.Invoke();
        TrainingResult rest = Trainer.Resume(part.RunFolder, Options(folder, resumeOn ?? device));
        Assert.Equal(RunStatus.Completed, rest.Status);
        Assert.Equal(LatestWeights(whole.RunFolder), LatestWeights(rest.RunFolder));
    }

    private sealed class StopAt(int step, CancellationTokenSource source) : ITrainingObserver
    {
        public void OnProgress(in TrainingProgress progress)
        {
            if (progress.Step == step)
                source.Cancel();
        }
    }
}
