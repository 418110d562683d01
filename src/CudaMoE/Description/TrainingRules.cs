using static CudaMoE.Description.DescriptionValidator;

namespace CudaMoE.Description;

/// <summary>The rules of training.</summary>
internal static class TrainingRules
{
    public static void Check(ModelDescription description)
    {
        TrainingDescription training = description.Training;
        CheckOptimizer(
            training.Optimizer, "training.optimizer", "dense parameters", [OptimizerType.Sgd, OptimizerType.Adagrad, OptimizerType.Adamw], momentum: true);
        CheckOptimizer(
            training.EmbeddingOptimizer, "training.embedding_optimizer", "embedding tables",
            [OptimizerType.Sgd, OptimizerType.Adagrad, OptimizerType.RowwiseAdagrad, OptimizerType.RowwiseAdam], momentum: false);
        BalancerRules.Check(description);
        if (training.EarlyStopping is { } stopping)
            CheckEarlyStopping(stopping, description);
    }

    private static void CheckOptimizer(OptimizerDescription optimizer, string path, string role, OptimizerType[] allowed, bool momentum)
    {
        if (Array.IndexOf(allowed, optimizer.Type) < 0)
        {
            string names = string.Join(", ", allowed.Select(type => DescriptionContext.EnumNames(typeof(OptimizerType)).ElementAt((int)type)));
            string given = DescriptionContext.EnumNames(typeof(OptimizerType)).ElementAt((int)optimizer.Type);
            throw Error(path + ".type", $"is {given}; {role} take {names}");
        }

        if (optimizer.Momentum != 0 && (!momentum || optimizer.Type != OptimizerType.Sgd))
            throw Error(path + ".momentum", $"has no effect here; only sgd of dense parameters has it; remove it");
    }

    private static void CheckEarlyStopping(EarlyStoppingDescription stopping, ModelDescription description)
    {
        const string path = "training.early_stopping";
        CheckMetric(stopping, description, path);
        if (stopping.TaskWeights is { } weights)
        {
            if (stopping.Metric.Contains('/', StringComparison.Ordinal))
                throw Error(path + ".task_weights", $"has no effect here; metric \"{stopping.Metric}\" is of one task; remove it");
            if (weights.Count != description.Tasks.Count)
                throw Error(path + ".task_weights", $"has {weights.Count} entries; it must have one a task, {description.Tasks.Count}");
            MetricInfo metric = MetricCatalog.Find(stopping.Metric)!;
            if (!weights.Where((weight, task) => weight > 0 && metric.Types.Contains(description.Tasks[task].Type)).Any())
                throw Error(path + ".task_weights", $"gives no task that has {metric.Name} a weight above 0");
        }

        if (description.Data is { Validation.Count: 0, ValidationSplit: null })
            throw Error(path, $"needs validation rows; give data.validation or data.validation_split");
    }

    private static void CheckMetric(EarlyStoppingDescription stopping, ModelDescription description, string path)
    {
        string name = stopping.Metric;
        IEnumerable<TaskDescription> tasks = description.Tasks;
        int slash = name.IndexOf('/', StringComparison.Ordinal);
        if (slash >= 0)
        {
            string task = name[..slash];
            tasks = tasks.Where(candidate => candidate.Name == task).ToArray();
            if (!tasks.Any())
            {
                string hint = NearestName.Suggestion(task, description.Tasks.Select(candidate => candidate.Name));
                throw Error(path + ".metric", $"is \"{LocatedValue.Cut(name)}\"; there is no task \"{LocatedValue.Cut(task)}\"{hint}");
            }

            name = name[(slash + 1)..];
        }

        MetricInfo? metric = MetricCatalog.Find(name);
        string[] usable = [.. MetricCatalog.All.Where(candidate => candidate.HigherIsBetter is not null).Select(candidate => candidate.Name)];
        if (metric?.HigherIsBetter is null)
        {
            throw Error(
                path + ".metric", $"is \"{LocatedValue.Cut(stopping.Metric)}\"; it must be one of {string.Join(", ", usable)}, or task/metric{NearestName.Suggestion(name, usable)}");
        }

        if (!tasks.Any(task => metric.Types.Contains(task.Type)))
            throw Error(path + ".metric", $"is \"{stopping.Metric}\", which no such task has; {name} is for {Names(metric.Types)} tasks");
        if (name == MetricCatalog.Gauc && description.Data is { GroupColumn: null })
            throw Error(path + ".metric", $"is \"{stopping.Metric}\", which needs data.group_column");

        static string Names(IEnumerable<TaskType> types) => string.Join(" and ", types.Select(type => type.ToString().ToLowerInvariant()));
    }
}
