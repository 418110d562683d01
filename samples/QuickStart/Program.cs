using CudaMoE.Description;
using CudaMoE.Training;

// The census model that ships with the repository, with other experts, one task weighted up and a short training.
ModelDescription census = DescriptionJson.Load("models/census-mmoe.json");
ModelDescription model = census with
{
    Name = "quick-start",
    Architecture = census.Architecture with { Experts = new() { Count = 4, Layers = [32] }, Tower = [16] },
    Tasks = [.. census.Tasks.Select(task => task.Name == "income" ? task with { Weight = 2 } : task)],
    Training = census.Training with { Epochs = 1, BatchSize = 4096 },
};

TrainingResult result = Trainer.Train(model, baseFolder: "models", new() { Device = "cpu", RunsFolder = "runs" });

foreach (TaskMetrics task in result.Test)
{
    Console.WriteLine($"{task.Task,-16} {string.Join("  ", task.Metrics)}");
}
Console.WriteLine($"checkpoint: {result.CheckpointPath}");
