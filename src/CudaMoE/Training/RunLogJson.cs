using System.Text.Json.Serialization;

namespace CudaMoE.Training;

/// <summary>Source-generated serialisation of the run log.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
    UseStringEnumConverter = true,
    AllowOutOfOrderMetadataProperties = true)]
[JsonSerializable(typeof(RunEvent))]
internal sealed partial class RunLogJson : JsonSerializerContext;
