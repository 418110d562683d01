using System.Globalization;
using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Models;

namespace CudaMoE.Export;

/// <summary>What an exported model has.</summary>
public sealed record OnnxExportOptions
{
    /// <summary>Whether the weights of the gates are outputs, <c>gates.0</c> for the first level and so on.</summary>
    public bool Gates { get; init; }

    /// <summary>Whether features with a vocabulary are passed as texts, which the graph looks up; else as ids.</summary>
    public bool Texts { get; init; }

    /// <summary>Whether large weights are in a second file beside the model also where they would fit in one; they are wherever they do not.</summary>
    public bool ExternalData { get; init; }
}

/// <summary>What an export made.</summary>
/// <param name="File">The model file.</param>
/// <param name="DataFile">The file with the large weights, which must stay beside it; null when there is none.</param>
/// <param name="Bytes">Bytes of both.</param>
/// <param name="Schema">Inputs, outputs, vocabularies.</param>
public sealed record OnnxExportResult(string File, string? DataFile, long Bytes, ExportSchema Schema);

/// <summary>
/// Writes a trained model as an ONNX file, for run times in other languages: features to predictions in one graph with a free number of samples. It needs the
/// checkpoint alone, no device. docs/export.md says what inputs and outputs mean.
/// </summary>
public static class OnnxExporter
{
    /// <summary>Exports a checkpoint. The file appears whole or not at all, and replaces one that is there.</summary>
    /// <param name="checkpoint">A checkpoint of a training run.</param>
    /// <param name="path">The file to write.</param>
    /// <param name="options">What the model has.</param>
    /// <exception cref="ExportException">The model is of a kind that cannot be exported; the message says why.</exception>
    /// <exception cref="CheckpointFormatException">The weights are not those of the model.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static OnnxExportResult Export(CheckpointFolder checkpoint, string path, OnnxExportOptions? options = null)
    {
        if (checkpoint.EncodersPath is not { } encoders)
            throw new ExportException($"{checkpoint.Folder} has no encoders, so inputs and outputs have no meaning: it was not made by a training run (windows of streams, XSMoE, cannot be exported)");
        ModelDescription description = DescriptionJson.Load(checkpoint.ModelPath);
        using SafetensorsReader weights = checkpoint.OpenWeights();
        return Export(description, FittedEncoders.Load(encoders), weights, checkpoint.State.Step, path, options ?? new());
    }

    internal static OnnxExportResult Export(
        ModelDescription description,
        FittedEncoders encoders,
        SafetensorsReader weights,
        long step,
        string path,
        OnnxExportOptions options,
        long limit = OnnxFile.MessageLimit)
    {
        path = Path.GetFullPath(path);
        RefuseUnsupported(description);
        OnnxGraph graph = new(description.Name);
        ExportContext context = new(graph, new(weights), description, encoders, options);
        List<ExportOutput> outputs = [.. TowerGraph.Outputs(encoders)];
        foreach (ExportOutput output in outputs)
            Claim(graph, output);
        InputGraph input = new(context);
        TrunkGraph trunk = new(context);
        long width;
        string[] representations = description.Architecture.Type == ModelType.Stem
            ? trunk.BuildStem(input.BuildUnits(StemTrunk.Units(description), out long unit), unit, out width)
            : trunk.Build(input.Build(out long inputs), inputs, out width);
        if (description.Architecture.Transfer is not null)
            representations = new TransferGraph(context).Build(representations, width);
        new TowerGraph(context).Build(representations, width);
        context.Weights.RefuseUnused();
        if (options.Gates)
            outputs.AddRange(AddGates(graph, trunk));
        ExportSchema schema = Schema(context, step, input.Inputs, outputs);
        graph.Metadata.Add(ExportSchema.MetadataKey, schema.ToJson());
        string? data = OnnxFile.Save(graph, path, options.ExternalData, limit);
        return new(path, data, new FileInfo(path).Length + (data is null ? 0 : new FileInfo(data).Length), schema);
    }

    private static void RefuseUnsupported(ModelDescription description)
    {
        string? reason = description.Architecture.Type switch
        {
            ModelType.Grec => "routes tokens of a transformer over sequences, which is not written as ONNX operators",
            ModelType.Mgoe => "reads macro neighbours of a graph that goes on growing behind the model",
            ModelType.SingleTask or ModelType.SharedBottom or ModelType.Mmoe or ModelType.MlMmoe or ModelType.Cgc or ModelType.Ple or ModelType.Adatt or ModelType.CrossStitch or ModelType.Stem => null,
            _ => "has parts that are not written as ONNX operators",
        };
        if (reason is not null)
            throw new ExportException($"architecture.type is {description.Architecture.Type.ToString().ToLowerInvariant()}; it cannot be exported: it {reason}. 'cudamoe predict' and the C# classes serve it");
    }

    private static void Claim(OnnxGraph graph, ExportOutput output)
    {
        if (!graph.Claim(output.Name))
            throw new ExportException($"the exported model would have two values called \"{output.Name}\"; rename the task or the feature");
    }

    private static IEnumerable<ExportOutput> AddGates(OnnxGraph graph, TrunkGraph trunk)
    {
        if (trunk.Gates.Count == 0)
            throw new ExportException("the model has no gates, so their weights cannot be outputs");
        for (int level = 0; level < trunk.Gates.Count; level++)
        {
            (string value, int gates, int experts) = trunk.Gates[level];
            ExportOutput output = new()
            {
                Name = string.Create(CultureInfo.InvariantCulture, $"gates.{level}"),
                Kind = "gates",
                Shape = [-1, gates, experts],
            };
            Claim(graph, output);
            graph.Output(value, output.Name, OnnxType.Float, OnnxDimension.Batch, gates, experts);
            yield return output;
        }
    }

    private static ExportSchema Schema(ExportContext context, long step, IReadOnlyList<ExportInput> inputs, IReadOnlyList<ExportOutput> outputs) => new()
    {
        Version = ExportSchema.CurrentVersion,
        Model = context.Description.Name,
        Type = context.Architecture.Type,
        Step = step,
        Trim = context.Encoders.Format.Trim,
        Missing = [.. context.Encoders.Format.Missing.Prepend("").Distinct()],
        Inputs = inputs,
        Tables =
        [
            .. context.Encoders.Tables.Where(table => inputs.Any(input => input.Table == table.Name))
                .Select(table => new ExportTable { Name = table.Name, Rows = table.Rows, Vocabulary = table.Vocabulary }),
        ],
        Outputs = outputs,
        Notices = [.. Notices(context.Architecture)],
    };

    private static IEnumerable<string> Notices(ArchitectureDescription architecture)
    {
        if (architecture.Gate.TopK is { } k)
            yield return $"All {architecture.Experts!.Count} experts are computed for every sample, those that are not chosen with weight 0: {k} of them cost as much as all.";
        if (architecture.Gate.CapacityFactor is not null)
            yield return "No expert has a capacity here: the engine drops samples of a batch that find no place, the exported model drops none.";
        if (architecture.Precision == Precision.Bf16)
            yield return "Products are in f32 here; the engine rounds their operands to bf16.";
    }
}
