using System.Text.Json;
using static CudaMoE.Description.DescriptionValidator;

namespace CudaMoE.Description;

/// <summary>The rules of tasks.</summary>
internal static class TaskRules
{
    /// <summary>The most tasks that a model can have.</summary>
    public const int MaxTasks = 64;

    public static void Check(ModelDescription description)
    {
        IReadOnlyList<TaskDescription> tasks = description.Tasks;
        if (tasks.Count is < 1 or > MaxTasks)
            throw Error("tasks", $"has {tasks.Count} entries; it must have 1 to {MaxTasks}");
        CheckUnique([.. tasks.Select(task => task.Name)], "tasks", "name");
        for (int i = 0; i < tasks.Count; i++)
            CheckTask(tasks[i], $"tasks[{i}]");
        CheckGiven(description);
        if (tasks.All(task => task.Weight == 0))
            throw Error("tasks", $"all have weight 0; at least one must be above 0");
    }

    private static void CheckGiven(ModelDescription description)
    {
        IReadOnlyList<TaskDescription> tasks = description.Tasks;
        Dictionary<string, TaskDescription> named = tasks.ToDictionary(task => task.Name);
        for (int i = 0; i < tasks.Count; i++)
        {
            if (tasks[i].Given is not { } given)
                continue;
            string path = $"tasks[{i}].given";
            if (!named.TryGetValue(given, out TaskDescription? other))
                throw Error(path, $"is \"{given}\", which is no task; name one of {string.Join(", ", named.Keys)}");
            if (tasks[i].Type != TaskType.Binary || other.Type != TaskType.Binary)
                throw Error(path, $"is \"{given}\"; a task and the one that it is given must both be binary");
            TaskDescription? at = other;
            for (int steps = 0; at != null; steps++)
            {
                if (steps == tasks.Count || at == tasks[i])
                    throw Error(path, $"is \"{given}\", which leads in a circle; remove one given of it");
                at = at.Given == null ? null : named.GetValueOrDefault(at.Given);
            }

            BalancerType balancer = description.Training.Balancer.Type;
            if (BalancerFacts.Of(balancer).Family != BalancerFamily.Fixed)
                throw Error(path, $"is \"{given}\"; the gradient of such a task runs through two towers, so the balancer must be equal or static, not {JsonNamingPolicy.SnakeCaseLower.ConvertName(balancer.ToString())}");
        }
    }

    private static void CheckTask(TaskDescription task, string path)
    {
        if (task.Name.Contains('/', StringComparison.Ordinal))
            throw Error(path + ".name", $"is \"{task.Name}\"; it must not hold '/', which parts task and metric in \"task/metric\"");
        if (task.Positive is { } positive)
        {
            if (task.Type != TaskType.Binary)
                throw Error(path + ".positive", $"has no effect here; only a binary task has it; remove it");
            if (positive.Count == 0)
                throw Error(path + ".positive", $"is empty; name the texts that count as 1, or remove it if the column holds numbers");
            CheckUnique(positive, path + ".positive");
        }

        if (task.Classes is { } classes)
        {
            if (task.Type != TaskType.Multiclass)
                throw Error(path + ".classes", $"has no effect here; only a multiclass task has it; remove it");
            if (classes.Count < 2)
                throw Error(path + ".classes", $"has {classes.Count} entries; it must have at least 2");
            CheckUnique(classes, path + ".classes");
        }

        if (task.Transform != LabelTransform.None && task.Type != TaskType.Regression)
            throw Error(path + ".transform", $"has no effect here; only a regression task has it; remove it");
        if (task.Mask is { } mask)
        {
            if (mask.In.Count == 0)
                throw Error(path + ".mask.in", $"is empty, which leaves no rows; name the texts that keep a row");
            CheckUnique(mask.In, path + ".mask.in");
        }
    }
}
