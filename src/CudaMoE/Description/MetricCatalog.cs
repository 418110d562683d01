namespace CudaMoE.Description;

/// <summary>A metric that tasks are measured by.</summary>
/// <param name="Name">Its name in descriptions, reports and files.</param>
/// <param name="Types">The kinds of task that have it.</param>
/// <param name="HigherIsBetter">Its direction; null for one that has a target instead (calibration: 1).</param>
public sealed record MetricInfo(string Name, IReadOnlyList<TaskType> Types, bool? HigherIsBetter);

/// <summary>All metrics by name.</summary>
public static class MetricCatalog
{
    /// <summary>Area under the ROC curve.</summary>
    public const string Auc = "auc";

    /// <summary>AUC within groups, averaged by the groups' weights.</summary>
    public const string Gauc = "gauc";

    /// <summary>Mean cross entropy in nats.</summary>
    public const string LogLoss = "log_loss";

    /// <summary>Normalised entropy: log loss divided by that of the constant prediction of the positive rate.</summary>
    public const string Ne = "ne";

    /// <summary>Sum of predictions divided by sum of labels.</summary>
    public const string Calibration = "calibration";

    /// <summary>Share of right decisions: at 0.5 for binary tasks, the likeliest class for multi-class ones.</summary>
    public const string Accuracy = "accuracy";

    /// <summary>Root of the mean squared error.</summary>
    public const string Rmse = "rmse";

    /// <summary>Mean absolute error.</summary>
    public const string Mae = "mae";

    /// <summary>Every metric, in the order in which a task's are listed.</summary>
    public static IReadOnlyList<MetricInfo> All { get; } =
    [
        new(Auc, [TaskType.Binary], true),
        new(Gauc, [TaskType.Binary], true),
        new(LogLoss, [TaskType.Binary, TaskType.Multiclass], false),
        new(Ne, [TaskType.Binary], false),
        new(Calibration, [TaskType.Binary], null),
        new(Accuracy, [TaskType.Binary, TaskType.Multiclass], true),
        new(Rmse, [TaskType.Regression], false),
        new(Mae, [TaskType.Regression], false),
    ];

    /// <summary>The metric of that name; null when there is none.</summary>
    public static MetricInfo? Find(string name) => All.FirstOrDefault(metric => metric.Name == name);

    /// <summary>The metrics that a kind of task has.</summary>
    public static IEnumerable<MetricInfo> Of(TaskType type) => All.Where(metric => metric.Types.Contains(type));
}
