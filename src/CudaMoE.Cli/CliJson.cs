using System.Text.Json.Serialization;
using CudaMoE.Benchmarking;
using CudaMoE.Cli.Experiments;
using CudaMoE.Graphs;
using CudaMoE.Training;

namespace CudaMoE.Cli;

/// <summary>Source-generated serialisation of what the commands answer with <c>--output json</c>.</summary>
[JsonSourceGenerationOptions(
    WriteIndented = true,
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true,
    NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals)]
[JsonSerializable(typeof(ErrorResult))]
[JsonSerializable(typeof(DevicesResult))]
[JsonSerializable(typeof(DoctorResult))]
[JsonSerializable(typeof(ReportResult))]
[JsonSerializable(typeof(InitResult))]
[JsonSerializable(typeof(InspectResult))]
[JsonSerializable(typeof(TensorsResult))]
[JsonSerializable(typeof(ProbeResult))]
[JsonSerializable(typeof(ImportResult))]
[JsonSerializable(typeof(TrainResult))]
[JsonSerializable(typeof(ExperimentResult))]
[JsonSerializable(typeof(ExperimentCellsResult))]
[JsonSerializable(typeof(RollbackResult))]
[JsonSerializable(typeof(BalancerCostResult))]
[JsonSerializable(typeof(Streaming.StreamResult))]
[JsonSerializable(typeof(Encoders.EncodeAnswer))]
[JsonSerializable(typeof(EvaluateResult))]
[JsonSerializable(typeof(PredictResult))]
[JsonSerializable(typeof(ExportResult))]
[JsonSerializable(typeof(GraphResult))]
[JsonSerializable(typeof(GraphLogResult))]
[JsonSerializable(typeof(InteractionSampleCounts))]
internal sealed partial class CliJson : JsonSerializerContext;

/// <summary>The document of a command that failed.</summary>
internal sealed record ErrorResult
{
    public required CliError Error { get; init; }
}

/// <summary>An error as the user sees it.</summary>
internal sealed record CliError
{
    /// <summary>"usage", "description", "data", "checkpoint", "run_folder", "native_library", "device", ...</summary>
    public required string Kind { get; init; }

    public required string Message { get; init; }

    public string? Hint { get; init; }

    public required int ExitCode { get; init; }
}

/// <summary>Answer of <c>devices</c>.</summary>
internal sealed record DevicesResult
{
    public required IReadOnlyList<BackendResult> Backends { get; init; }
}

/// <summary>Answer of <c>experiment --list</c>.</summary>
internal sealed record ExperimentCellsResult
{
    public required IReadOnlyList<string> Cells { get; init; }
}

/// <summary>Answer of <c>stream --rollback</c>.</summary>
internal sealed record RollbackResult
{
    public required string Folder { get; init; }

    /// <summary>The last window that is left; 0 = none.</summary>
    public required int Window { get; init; }
}

/// <summary>Answer of <c>bench balancers</c>.</summary>
internal sealed record BalancerCostResult
{
    public required IReadOnlyList<BalancerCost> Costs { get; init; }
}

/// <summary>A backend and, where one can be opened, its default device.</summary>
internal sealed record BackendResult
{
    public required string Backend { get; init; }

    public required bool Usable { get; init; }

    public string? Reason { get; init; }

    public string? Device { get; init; }

    public string? Level { get; init; }

    public int? Threads { get; init; }

    public long? MemoryBytes { get; init; }

    /// <summary>Whether bf16 products have instructions of their own.</summary>
    public bool? Bf16 { get; init; }
}

/// <summary>Answer of <c>doctor</c>.</summary>
internal sealed record DoctorResult
{
    public required bool Healthy { get; init; }

    public required IReadOnlyList<DoctorCheck> Checks { get; init; }
}

/// <summary>One thing that was looked at.</summary>
internal sealed record DoctorCheck
{
    public required string Name { get; init; }

    /// <summary>"ok", "warning" or "bad".</summary>
    public required string State { get; init; }

    public required string Finding { get; init; }
}

/// <summary>Answer of <c>report</c>.</summary>
internal sealed record ReportResult
{
    public required string Report { get; init; }

    /// <summary>Tasks that are worse than their single-task runs; null without a baseline.</summary>
    public IReadOnlyList<string>? NegativeTransfer { get; init; }
}

/// <summary>Answer of <c>init</c>.</summary>
internal sealed record InitResult
{
    public required string Model { get; init; }

    public required long SampleRows { get; init; }

    public required int Features { get; init; }

    public required IReadOnlyList<string> Tasks { get; init; }

    public required bool TasksGuessed { get; init; }

    public required IReadOnlyList<string> LeftOut { get; init; }
}

/// <summary>Answer of <c>inspect</c> for a model or a checkpoint.</summary>
internal sealed record InspectResult
{
    public required string Name { get; init; }

    public required string Architecture { get; init; }

    public required IReadOnlyList<InspectedTask> Tasks { get; init; }

    /// <summary>Numbers of the feature row, before projection.</summary>
    public required int FeatureWidth { get; init; }

    public required IReadOnlyList<InspectedTable> Tables { get; init; }

    public required long DenseParameters { get; init; }

    public required long EmbeddingParameters { get; init; }

    public required InspectedMemory Memory { get; init; }

    public required IReadOnlyList<InspectedParameter> Parameters { get; init; }

    /// <summary>How tensors lie in memory, in words.</summary>
    public required string Layout { get; init; }

    public InspectedCheckpoint? Checkpoint { get; init; }
}

internal sealed record InspectedTask(string Name, string Type, int Outputs);

internal sealed record InspectedTable(string Name, int Rows, int Dimension, IReadOnlyList<string> Features);

/// <summary>Bytes by use, for training with batches of so many rows.</summary>
internal sealed record InspectedMemory(int Rows, long Parameters, long OptimizerStates, long Activations, long PackedWeights, long Workspace, long HostTables, long TableCaches);

internal sealed record InspectedParameter(string Name, string? Kind, string Type, IReadOnlyList<long> Shape, long Count);

internal sealed record InspectedCheckpoint(string Path, long Step, int Epoch, IReadOnlyList<InspectedFile> Files);

internal sealed record InspectedFile(string Name, long Bytes, string Sha256);

/// <summary>Answer of <c>inspect</c> for a safetensors file.</summary>
internal sealed record TensorsResult
{
    public required string File { get; init; }

    public required IReadOnlyDictionary<string, string> Metadata { get; init; }

    public required IReadOnlyList<InspectedParameter> Tensors { get; init; }
}

/// <summary>Answer of <c>import</c>.</summary>
internal sealed record ImportResult
{
    public required string File { get; init; }

    /// <summary>Parameters that were written.</summary>
    public required int Parameters { get; init; }

    /// <summary>Foreign tensors that they were taken from.</summary>
    public required int Tensors { get; init; }
}

/// <summary>Answer of <c>probe</c>.</summary>
internal sealed record ProbeResult
{
    /// <summary>The file of outputs and gradients.</summary>
    public required string File { get; init; }

    public required long Rows { get; init; }

    public required IReadOnlyList<string> Tensors { get; init; }
}

/// <summary>Answer of <c>train</c> and <c>resume</c>.</summary>
internal sealed record TrainResult
{
    public required RunStatus Status { get; init; }

    public required string RunFolder { get; init; }

    public required long Steps { get; init; }

    public string? Checkpoint { get; init; }

    public string? Report { get; init; }

    public required IReadOnlyList<TaskMetrics> Test { get; init; }
}

/// <summary>Answer of <c>experiment</c>.</summary>
internal sealed record ExperimentResult
{
    public required ExperimentSummary Summary { get; init; }

    public required string Markdown { get; init; }

    public required string Html { get; init; }
}

/// <summary>Answer of <c>evaluate</c>.</summary>
internal sealed record EvaluateResult
{
    public required string Checkpoint { get; init; }

    public required long Rows { get; init; }

    public required double Seconds { get; init; }

    public required IReadOnlyList<TaskMetrics> Metrics { get; init; }

    public required IReadOnlyList<TaskCalibration> Calibration { get; init; }
}

/// <summary>Answer of <c>export</c>.</summary>
internal sealed record ExportResult
{
    public required string Checkpoint { get; init; }

    public required string File { get; init; }

    /// <summary>The file with the large weights, where there is one.</summary>
    public string? DataFile { get; init; }

    public string? SchemaFile { get; init; }

    /// <summary>Bytes of the model file and of the file with the large weights.</summary>
    public required long Bytes { get; init; }

    public required IReadOnlyList<ExportValue> Inputs { get; init; }

    public required IReadOnlyList<ExportValue> Outputs { get; init; }

    /// <summary>Where the outputs can differ from those of <c>predict</c>.</summary>
    public required IReadOnlyList<string> Notices { get; init; }
}

/// <summary>An input or output of an exported model.</summary>
internal sealed record ExportValue
{
    public required string Name { get; init; }

    public required string Type { get; init; }

    /// <summary>Extents; -1 where the size is free.</summary>
    public required IReadOnlyList<long> Shape { get; init; }
}

/// <summary>Answer of <c>predict</c>.</summary>
internal sealed record PredictResult
{
    public required string Checkpoint { get; init; }

    /// <summary>The file of predictions.</summary>
    public required string File { get; init; }

    public required long Rows { get; init; }

    public required double Seconds { get; init; }
}

/// <summary>Answer of <c>graph build</c>, <c>graph update</c> and <c>graph inspect</c>.</summary>
internal sealed record GraphResult
{
    public required string File { get; init; }

    public required long Bytes { get; init; }

    public required double Seconds { get; init; }

    public required MacroGraphInfo Graph { get; init; }
}

/// <summary>Answer of <c>graph generate</c>.</summary>
internal sealed record GraphLogResult
{
    public required string File { get; init; }

    public required long Interactions { get; init; }
}
