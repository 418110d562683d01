using System.Text.Json;
using System.Text.Json.Serialization;

namespace CudaMoE.Checkpoints;

/// <summary>The list of a checkpoint's files, written last.</summary>
/// <param name="Format">Always <see cref="FormatName"/>.</param>
/// <param name="Version">Grows with every incompatible change of the folder's content.</param>
/// <param name="Files">Each file but the manifest itself, with length and SHA-256.</param>
internal sealed record CheckpointManifest(string Format, int Version, IReadOnlyDictionary<string, FileDigest> Files)
{
    public const string FormatName = "cudamoe-checkpoint";
    public const int CurrentVersion = 1;
}

/// <summary>Reads and writes the folder's own JSON files, strictly: snake_case keys, none unknown, none twice.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
    NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true,
    AllowDuplicateProperties = false,
    WriteIndented = true,
    NewLine = "\n")]
[JsonSerializable(typeof(CheckpointManifest))]
[JsonSerializable(typeof(TrainingState))]
internal sealed partial class CheckpointJson : JsonSerializerContext;
