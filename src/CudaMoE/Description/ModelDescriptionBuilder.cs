namespace CudaMoE.Description;

/// <summary>Builds a <see cref="ModelDescription"/> step by step; <see cref="Build"/> validates it.</summary>
public sealed class ModelDescriptionBuilder(string name)
{
    private readonly List<FeatureDescription> _features = [];
    private readonly List<TaskDescription> _tasks = [];
    private DataDescription? _data;
    private ArchitectureDescription? _architecture;
    private TrainingDescription _training = new();

    /// <summary>The files of rows.</summary>
    public ModelDescriptionBuilder WithData(DataDescription data)
    {
        _data = data;
        return this;
    }

    /// <summary>Adds an embedded feature with one value a row.</summary>
    public ModelDescriptionBuilder AddCategorical(string name, int dimension, string? column = null) =>
        AddFeature(new() { Name = name, Column = column, Type = FeatureType.Categorical, Dimension = dimension });

    /// <summary>Adds a number.</summary>
    public ModelDescriptionBuilder AddDense(string name, DenseTransform transform = DenseTransform.Standardize, string? column = null) =>
        AddFeature(new() { Name = name, Column = column, Type = FeatureType.Dense, Transform = transform });

    /// <summary>Adds any feature.</summary>
    public ModelDescriptionBuilder AddFeature(FeatureDescription feature)
    {
        _features.Add(feature);
        return this;
    }

    /// <summary>Adds a binary task: rows whose column holds one of <paramref name="positive"/> are 1.</summary>
    public ModelDescriptionBuilder AddBinaryTask(string name, string column, params string[] positive) =>
        AddTask(new() { Name = name, Column = column, Type = TaskType.Binary, Positive = positive.Length == 0 ? null : positive });

    /// <summary>Adds any task.</summary>
    public ModelDescriptionBuilder AddTask(TaskDescription task)
    {
        _tasks.Add(task);
        return this;
    }

    /// <summary>The network.</summary>
    public ModelDescriptionBuilder WithArchitecture(ArchitectureDescription architecture)
    {
        _architecture = architecture;
        return this;
    }

    /// <summary>The training.</summary>
    public ModelDescriptionBuilder WithTraining(TrainingDescription training)
    {
        _training = training;
        return this;
    }

    /// <summary>The description, validated.</summary>
    /// <exception cref="DescriptionException">Something is missing or breaks a rule; the message names it.</exception>
    public ModelDescription Build()
    {
        ModelDescription description = new()
        {
            Name = name,
            Data = _data,
            Features = [.. _features],
            Tasks = [.. _tasks],
            Architecture = _architecture ?? throw new DescriptionException("architecture is missing; call WithArchitecture"),
            Training = _training,
        };
        DescriptionValidator.Validate(description);
        return description;
    }
}
