using System.Globalization;
using CudaMoE.Description;

namespace CudaMoE.Metrics;

/// <summary>What the predictions of a binary task are.</summary>
public enum ScoreKind
{
    /// <summary>Probabilities, 0 to 1.</summary>
    Probability,

    /// <summary>Logits. Better where probabilities are near 0 or 1: no two of them become equal, and the loss stays exact.</summary>
    Logit,
}

/// <summary>
/// Gathers a task's predictions and labels batch by batch and computes its metrics. Sums are in double, in the order of the rows, so
/// that the same rows in the same order give the same bits however they are cut into batches.
/// </summary>
/// <remarks>Not thread-safe.</remarks>
public abstract class TaskAccumulator
{
    private long _notFinite;

    private protected TaskAccumulator(string task, TaskType type, int width)
    {
        Task = task;
        Type = type;
        Width = width;
    }

    /// <summary>The task's name.</summary>
    public string Task { get; }

    /// <summary>The task's kind.</summary>
    public TaskType Type { get; }

    /// <summary>Predictions of a row: 1, or the number of classes.</summary>
    public int Width { get; }

    /// <summary>Rows gathered: with a label and a weight above 0.</summary>
    public long Rows { get; private set; }

    /// <summary>Sum of their weights.</summary>
    public double Weight { get; private set; }

    /// <summary>Makes the accumulator for a task of a description.</summary>
    /// <param name="task">The task.</param>
    /// <param name="classes">Classes of a multi-class task.</param>
    /// <param name="scores">What the predictions of a binary task are.</param>
    public static TaskAccumulator Create(TaskDescription task, int classes = 0, ScoreKind scores = ScoreKind.Probability) => task.Type switch
    {
        TaskType.Binary => new BinaryAccumulator(task.Name, scores),
        TaskType.Regression => new RegressionAccumulator(task.Name),
        _ => new MulticlassAccumulator(task.Name, classes),
    };

    /// <summary>Adds rows.</summary>
    /// <param name="predictions">[rows, <see cref="Width"/>].</param>
    /// <param name="labels">[rows]; NaN = no label: the row is left out.</param>
    /// <param name="weights">[rows], finite and at least 0, 0 leaves the row out; empty = all 1.</param>
    /// <param name="groups">[rows], for GAUC; empty = none, and then in every call.</param>
    /// <exception cref="ArgumentException">A length, label or weight is not as it must be; the rows before it are gathered.</exception>
    public void Add(ReadOnlySpan<float> predictions, ReadOnlySpan<float> labels, ReadOnlySpan<float> weights = default, ReadOnlySpan<int> groups = default)
    {
        int rows = labels.Length;
        if (predictions.Length != (long)rows * Width)
            throw new ArgumentException($"predictions has {predictions.Length} entries for {rows} labels; it must have {Width} a label");
        if (!weights.IsEmpty && weights.Length != rows)
            throw new ArgumentException($"weights has {weights.Length} entries for {rows} labels");
        if (!groups.IsEmpty && groups.Length != rows)
            throw new ArgumentException($"groups has {groups.Length} entries for {rows} labels");
        if (rows > 0)
            Begin(rows, !groups.IsEmpty);
        for (int row = 0; row < rows; row++)
        {
            float weight = weights.IsEmpty ? 1 : weights[row];
            float label = labels[row];
            if (!(weight >= 0 && float.IsFinite(weight)))
                throw new ArgumentException(string.Create(CultureInfo.InvariantCulture, $"weights[{row}] is {weight}; it must be finite and at least 0"));
            if (float.IsNaN(label) || weight == 0)
                continue;
            CheckLabel(label, row);
            Rows++;
            Weight += weight;
            if (!AddRow(predictions.Slice(row * Width, Width), label, weight, groups.IsEmpty ? 0 : groups[row]))
                _notFinite++;
        }
    }

    /// <summary>Computes all metrics of the rows so far; more rows may follow.</summary>
    public TaskMetrics Compute()
    {
        string? reason = Rows == 0 ? "there are no labelled rows"
            : _notFinite > 0 ? string.Create(CultureInfo.InvariantCulture, $"{_notFinite} of {Rows} predictions are {InvalidPrediction}")
            : null;
        return reason is null
            ? Evaluate()
            : new(Task, Type, Rows, Weight, null, null, [.. MetricCatalog.Of(Type).Select(metric => MetricValue.None(metric.Name, reason))], []);
    }

    /// <summary>Forgets all rows, but keeps the memory.</summary>
    public void Reset()
    {
        Rows = 0;
        Weight = 0;
        _notFinite = 0;
        Clear();
    }

    /// <summary>What is wrong with a prediction that <see cref="AddRow"/> does not take.</summary>
    private protected virtual string InvalidPrediction => "not finite";

    private protected virtual void Begin(int rows, bool hasGroups)
    {
    }

    private protected abstract void CheckLabel(float label, int row);

    /// <summary>Adds a row; false when its prediction is of no use.</summary>
    private protected abstract bool AddRow(ReadOnlySpan<float> prediction, float label, float weight, int group);

    private protected abstract TaskMetrics Evaluate();

    private protected abstract void Clear();
}
