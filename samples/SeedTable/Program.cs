// Trains a model once for each seed and prints a Markdown table of its test metrics, mean and deviation.
//   dotnet run -c Release --project samples/SeedTable -- models/census-mmoe.json 3
using System.Globalization;
using CudaMoE.Description;
using CudaMoE.Training;

if (args is not [string model, string count] || !int.TryParse(count, CultureInfo.InvariantCulture, out int seeds) || seeds < 1)
{
    Console.Error.WriteLine("usage: SeedTable MODEL.json SEEDS");
    return 2;
}

ModelDescription description = DescriptionJson.Load(model);
string folder = Path.GetDirectoryName(Path.GetFullPath(model))!;
SortedDictionary<string, List<double>> values = new(StringComparer.Ordinal);
for (ulong seed = 1; seed <= (ulong)seeds; seed++)
{
    ModelDescription seeded = description with { Training = description.Training with { Seed = seed } };
    TrainingResult result = Trainer.Train(seeded, folder);
    Console.Error.WriteLine($"seed {seed}: {result.Status} after {result.Steps} steps, {result.RunFolder}");
    foreach (TaskMetrics task in result.Test)
    {
        foreach (MetricValue metric in task.Metrics.Where(m => m.Value != null))
        {
            string key = $"{task.Task} | {metric.Name}";
            if (!values.TryGetValue(key, out List<double>? list))
                values[key] = list = [];
            list.Add(metric.Value!.Value);
        }
    }
}

Console.WriteLine($"| task | metric | mean of {seeds} | deviation | each seed |");
Console.WriteLine("| --- | --- | ---: | ---: | --- |");
foreach ((string key, List<double> list) in values)
{
    double mean = list.Average();
    double deviation = list.Count < 2 ? 0 : Math.Sqrt(list.Sum(v => (v - mean) * (v - mean)) / (list.Count - 1));
    string each = string.Join(", ", list.Select(v => v.ToString("0.0000", CultureInfo.InvariantCulture)));
    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| {key} | {mean:0.0000} | {deviation:0.0000} | {each} |"));
}

return 0;
