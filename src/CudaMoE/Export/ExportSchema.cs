using System.Text.Json;
using System.Text.Json.Serialization;
using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Export;

/// <summary>
/// What a client must know to make the inputs of an exported model from raw values and to read its outputs; docs/export.md says how. It is in the model file
/// (metadata <see cref="MetadataKey"/>) and can be written beside it.
/// </summary>
public sealed record ExportSchema
{
    /// <summary>The key of the model's metadata that holds the schema as JSON.</summary>
    public const string MetadataKey = "cudamoe.schema";

    /// <summary>The version of this format.</summary>
    public const int CurrentVersion = 1;

    /// <summary>Version of the format.</summary>
    public required int Version { get; init; }

    /// <summary>The model's name.</summary>
    public required string Model { get; init; }

    /// <summary>The model's type.</summary>
    public required ModelType Type { get; init; }

    /// <summary>The optimiser step of the checkpoint.</summary>
    public required long Step { get; init; }

    /// <summary>Whether blanks and tabs around texts are dropped before anything else.</summary>
    public required bool Trim { get; init; }

    /// <summary>Texts that mean "not known", the empty one among them.</summary>
    public required IReadOnlyList<string> Missing { get; init; }

    /// <summary>The inputs, in the order of the features.</summary>
    public required IReadOnlyList<ExportInput> Inputs { get; init; }

    /// <summary>The embedding tables that inputs hold ids of.</summary>
    public required IReadOnlyList<ExportTable> Tables { get; init; }

    /// <summary>The outputs, in the order of the tasks.</summary>
    public required IReadOnlyList<ExportOutput> Outputs { get; init; }

    /// <summary>Where the outputs can differ from the engine's.</summary>
    public required IReadOnlyList<string> Notices { get; init; }

    /// <summary>The JSON text.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, ExportJson.Default.ExportSchema);
}

/// <summary>An input of an exported model.</summary>
public sealed record ExportInput
{
    /// <summary>Its name: the feature's.</summary>
    public required string Name { get; init; }

    /// <summary>The column that the feature was read from.</summary>
    public required string Column { get; init; }

    /// <summary>The kind of feature.</summary>
    public required FeatureType Feature { get; init; }

    /// <summary>"int64", "double", "float" or "string".</summary>
    public required string Type { get; init; }

    /// <summary>Extents; -1 where the size is free: the samples, and the places of a multi-hot feature.</summary>
    public required IReadOnlyList<long> Shape { get; init; }

    /// <summary>The embedding table that ids are rows of; null for numbers.</summary>
    public string? Table { get; init; }

    /// <summary>How a text becomes a row of the table; null for numbers.</summary>
    public CategoryEncoding? Encoding { get; init; }

    /// <summary>Character between the values of a multi-hot feature, sequence or vector.</summary>
    public string? Separator { get; init; }

    /// <summary>Values of a multi-hot feature or sequence that the model was trained with at most.</summary>
    public int? MaxLength { get; init; }

    /// <summary>Which values of a sequence are kept.</summary>
    public SequenceEnd? Keep { get; init; }

    /// <summary>What the graph does to a number.</summary>
    public DenseTransform? Transform { get; init; }

    /// <summary>What stands for a value that is not known, or for a place without a value: "0", "-1", "", "NaN" or "zeros".</summary>
    public required string Absent { get; init; }

    /// <summary>The type as in the file.</summary>
    [JsonIgnore]
    internal OnnxType ElementType => Enum.Parse<OnnxType>(Type, ignoreCase: true);

    internal static ExportInput Of(FittedFeature feature, FittedEncoders encoders, bool texts)
    {
        FeatureDescription description = feature.Description;
        bool category = FeatureRules.IsCategory(description);
        bool list = FeatureRules.IsList(description);
        bool text = texts && category && description.Encoding == CategoryEncoding.Vocabulary;
        OnnxType type = category ? text ? OnnxType.String : OnnxType.Int64 : description.Type == FeatureType.Vector ? OnnxType.Float : OnnxType.Double;
        return new()
        {
            Name = description.Name,
            Column = feature.Column,
            Feature = description.Type,
            Type = type.ToString().ToLowerInvariant(),
            Shape = description.Type switch
            {
                FeatureType.MultiHot => [-1, -1],
                FeatureType.Sequence => [-1, feature.MaxLength],
                FeatureType.Vector => [-1, description.Size!.Value],
                _ => [-1, 1],
            },
            Table = category ? feature.Table : null,
            Encoding = category ? description.Encoding : null,
            Separator = FeatureRules.IsSeparated(description) ? description.ValueSeparator : null,
            MaxLength = list ? feature.MaxLength : null,
            Keep = description.Type == FeatureType.Sequence ? description.Keep : null,
            Transform = description.Type == FeatureType.Dense ? description.Transform : null,
            Absent = text ? "" : list ? "-1" : category ? "0" : description.Type == FeatureType.Vector ? "zeros" : "NaN",
        };
    }
}

/// <summary>An embedding table of an exported model.</summary>
public sealed record ExportTable
{
    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>Its rows; row 0 is the unknown value.</summary>
    public required int Rows { get; init; }

    /// <summary>The texts of rows 1, 2, ...; null where ids are computed.</summary>
    public IReadOnlyList<string>? Vocabulary { get; init; }
}

/// <summary>An output of an exported model, f32.</summary>
public sealed record ExportOutput
{
    /// <summary>Its name.</summary>
    public required string Name { get; init; }

    /// <summary>The task; null for gate weights.</summary>
    public string? Task { get; init; }

    /// <summary>"logit", "probability", "conditional", "value", "logits", "probabilities" or "gates".</summary>
    public required string Kind { get; init; }

    /// <summary>Extents; -1 for the samples.</summary>
    public required IReadOnlyList<long> Shape { get; init; }

    /// <summary>The texts of the classes; null for other tasks.</summary>
    public IReadOnlyList<string>? Classes { get; init; }

    /// <summary>Of a conditional probability: the task whose positive rows it is for.</summary>
    public string? Given { get; init; }

    internal static ExportOutput Of(FittedTask task, string kind, int width) => new()
    {
        Name = $"{task.Description.Name}.{kind}",
        Task = task.Description.Name,
        Kind = kind,
        Shape = [-1, width],
        Classes = task.Classes,
        Given = kind == "conditional" ? task.Description.Given : null,
    };
}

/// <summary>Source-generated serialisation of the schema.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    Converters =
    [
        typeof(SnakeCaseEnumConverter<FeatureType>),
        typeof(SnakeCaseEnumConverter<CategoryEncoding>),
        typeof(SnakeCaseEnumConverter<SequenceEnd>),
        typeof(SnakeCaseEnumConverter<DenseTransform>),
        typeof(SnakeCaseEnumConverter<ModelType>),
    ])]
[JsonSerializable(typeof(ExportSchema))]
internal sealed partial class ExportJson : JsonSerializerContext;
