using System.Collections;
using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Serving;

/// <summary>What a model predicts of one task.</summary>
/// <param name="Task">The task.</param>
/// <param name="Type">Its type.</param>
/// <param name="Value">The probability of a binary task, the number of a regression task in the label's unit, the probability of the likeliest class.</param>
/// <param name="Class">The likeliest class of a multi-class task; else null.</param>
/// <param name="Classes">The probability of each class of a multi-class task, in the order of <see cref="FittedTask.Classes"/>; else null.</param>
/// <param name="Conditional">The probability of a task with a given one, where that one is the case; else null.</param>
public sealed record TaskPrediction(string Task, TaskType Type, float Value, string? Class, IReadOnlyList<float>? Classes, float? Conditional);

/// <summary>What a model predicts of one row: every task in the model's order.</summary>
public sealed class Prediction : IReadOnlyList<TaskPrediction>
{
    private readonly TaskPrediction[] _tasks;

    internal Prediction(TaskPrediction[] tasks) => _tasks = tasks;

    /// <inheritdoc/>
    public int Count => _tasks.Length;

    /// <inheritdoc/>
    public TaskPrediction this[int index] => _tasks[index];

    /// <summary>The prediction of a task.</summary>
    /// <exception cref="KeyNotFoundException">The model has no such task.</exception>
    public TaskPrediction this[string task] =>
        Array.Find(_tasks, prediction => prediction.Task == task) ?? throw new KeyNotFoundException($"the model has no task \"{task}\"; it has {string.Join(", ", _tasks.Select(t => t.Task))}");

    /// <inheritdoc/>
    public IEnumerator<TaskPrediction> GetEnumerator() => ((IEnumerable<TaskPrediction>)_tasks).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
