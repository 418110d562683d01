using System.Collections.Frozen;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace CudaMoE.Description;

/// <summary>The JSON contract of descriptions, made at compile time.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
    RespectNullableAnnotations = true,
    AllowDuplicateProperties = false,
    WriteIndented = true,
    NewLine = "\n",
    Converters = [
        typeof(SnakeCaseEnumConverter<ModelType>), typeof(SnakeCaseEnumConverter<GateSharing>), typeof(SnakeCaseEnumConverter<ScoreMode>),
        typeof(SnakeCaseEnumConverter<RoutingOrder>), typeof(SnakeCaseEnumConverter<ActivationKind>), typeof(SnakeCaseEnumConverter<Precision>),
        typeof(SnakeCaseEnumConverter<SplitSource>), typeof(SnakeCaseEnumConverter<FeatureType>), typeof(SnakeCaseEnumConverter<CategoryEncoding>),
        typeof(SnakeCaseEnumConverter<PoolingKind>), typeof(SnakeCaseEnumConverter<SequenceEnd>), typeof(SnakeCaseEnumConverter<DenseTransform>),
        typeof(SnakeCaseEnumConverter<TaskType>), typeof(SnakeCaseEnumConverter<LabelTransform>), typeof(SnakeCaseEnumConverter<OptimizerType>), typeof(SnakeCaseEnumConverter<ScheduleType>),
        typeof(SnakeCaseEnumConverter<BalancerType>), typeof(SnakeCaseEnumConverter<RepresentationPlace>), typeof(SnakeCaseEnumConverter<GramScale>),
        typeof(SnakeCaseEnumConverter<HeadGradient>), typeof(SnakeCaseEnumConverter<NativeResidual>), typeof(SnakeCaseEnumConverter<GateInput>),
        typeof(SnakeCaseEnumConverter<GradientNormalization>), typeof(SnakeCaseEnumConverter<SequencePooling>), typeof(SnakeCaseEnumConverter<RoutingLevel>),
        typeof(SnakeCaseEnumConverter<SequencePadding>), typeof(SnakeCaseEnumConverter<CapacityOverflow>),
        typeof(SnakeCaseEnumConverter<MacroTables>), typeof(SnakeCaseEnumConverter<MacroAttention>),
        typeof(SnakeCaseEnumConverter<SimplexMap>), typeof(SnakeCaseEnumConverter<EigenvalueScale>),
        typeof(SnakeCaseEnumConverter<StateSource>), typeof(SnakeCaseEnumConverter<TokenPooling>), typeof(SnakeCaseEnumConverter<StoragePlace>), typeof(SnakeCaseEnumConverter<RouterStart>), typeof(SnakeCaseEnumConverter<UtilizationPasses>),
    ])]
[JsonSerializable(typeof(ModelDescription))]
[JsonSerializable(typeof(StreamDescription))]
internal sealed partial class DescriptionContext : JsonSerializerContext
{
    // The generated code sets every init-only property, to default(T) where the text has none: the defaults of the records are lost. So the
    // reader fills in what is missing from these instances, whose required members are never looked at.
    private static readonly FrozenDictionary<Type, object> Prototypes = new object[]
    {
        new ModelDescription { Name = "", Features = [], Tasks = [], Architecture = new() { Type = default } },
        new DataDescription { Train = [] },
        new FileFormat(),
        new ValidationSplit(),
        new FeatureDescription { Name = "", Type = default },
        new TableStorage(),
        new TaskDescription { Name = "", Type = default },
        new MaskRule { Column = "", In = [] },
        new ArchitectureDescription { Type = default },
        new ExpertsDescription(),
        new GateDescription(),
        new GrecDescription(),
        new MacroDescription(),
        new TransferDescription(),
        new TrainingDescription(),
        new OptimizerDescription(),
        new ScheduleDescription(),
        new BalancerDescription(),
        new EarlyStoppingDescription(),
        new StreamDescription { Name = "", Data = new() { Log = [] }, Modalities = [] },
        new StreamDataDescription { Log = [] },
        new ItemTableDescription { File = "" },
        new ModalityDescription { Name = "", Source = default },
        new XsmoeDescription(),
        new GrowthDescription(),
        new StreamTrainingDescription(),
    }.ToFrozenDictionary(prototype => prototype.GetType());

    /// <summary>The default value of a property that is not required.</summary>
    public static object? DefaultOf(JsonTypeInfo type, JsonPropertyInfo property) => property.Get!(Prototypes[type.Type]);

    /// <summary>The contract of a type.</summary>
    public static JsonTypeInfo Contract(Type type) => Default.GetTypeInfo(type)
        ?? throw new InvalidOperationException($"{type} is not part of a description");

    /// <summary>The values of an enumeration as they are written.</summary>
    public static IEnumerable<string> EnumNames(Type type) => Enum.GetNames(type).Select(JsonNamingPolicy.SnakeCaseLower.ConvertName);
}

/// <summary>Enumerations as snake_case strings; numbers are refused.</summary>
internal sealed class SnakeCaseEnumConverter<TEnum>() : JsonStringEnumConverter<TEnum>(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false)
    where TEnum : struct, Enum;
