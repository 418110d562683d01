using System.CommandLine;
using CudaMoE.Checkpoints;
using CudaMoE.Cli.Rendering;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;
using Spectre.Console;

namespace CudaMoE.Cli.Commands;

/// <summary>Shows what a model is made of: parameters, shapes, memory; or what is in a checkpoint or a safetensors file.</summary>
internal sealed class InspectCommand : CliCommand
{
    private const string LayoutNote =
        """
        Tensors are row-major without gaps. Weights of linear layers are [out, in], expert weights [expert, out, in]; a layer computes
        y = activation(x W^T + b). The rows of gate.weight are the experts of the first gate, then those of the second, and so on; a gate that does not see all
        experts has rows for those that it sees. The experts of a level are the first task's, the second's, and so on, then the shared ones. Embedding tables are
        [rows, dimension]; row 0 is the unknown value. The feature row holds the embeddings in the order of the features, then the dense numbers.
        """;

    private readonly Argument<string> _path = new("PATH") { Description = "A model file (.json), a checkpoint, a run folder, or a .safetensors file" };

    private readonly Option<bool> _parameters = new("--parameters") { Description = "List every parameter: name, kind, shape, layout" };

    private readonly Option<int?> _vocabulary = new("--vocabulary")
    {
        HelpName = "ROWS",
        Description = "For a model file: assume so many rows for every table with a vocabulary, instead of reading the data",
    };

    private readonly Option<string> _device = DeviceOption();

    public InspectCommand()
        : base(
            "inspect",
            "Show the parameters, shapes and memory of a model, or the contents of a checkpoint.",
            "cudamoe inspect runs/census-20260102-030405 --parameters",
            "cudamoe inspect model.json --vocabulary 1000 --output json")
    {
        Add(_path);
        Add(_parameters);
        Add(_vocabulary);
        Add(_device);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        string path = arguments.GetRequiredValue(_path);
        if (path.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase))
            return InspectTensors(context, path);
        (CheckpointFolder? checkpoint, ModelShape shape) = path.EndsWith(".json", StringComparison.OrdinalIgnoreCase)
            ? Tuple.Create<CheckpointFolder?, ModelShape>(null, ShapeOfFile(arguments, context, path, cancellation))
            : CheckpointLocator.Load(path, checkpoint => Tuple.Create<CheckpointFolder?, ModelShape>(checkpoint, ShapeOfCheckpoint(checkpoint)));
        InspectResult result = Inspect(arguments.GetRequiredValue(_device), shape, checkpoint);
        if (context.Format == OutputFormat.Json)
            context.WriteJson(result, CliJson.Default.InspectResult);
        else
            Show(context, shape, result, arguments.GetValue(_parameters));
        return ExitCodes.Ok;
    }

    private ModelShape ShapeOfFile(ParseResult arguments, CliContext context, string path, CancellationToken cancellation)
    {
        ModelDescription description = ModelFile.Load(path, []);
        if (arguments.GetValue(_vocabulary) is { } rows)
        {
            return rows < 1
                ? throw new UsageException($"--vocabulary is {rows}; it must be at least 1")
                : ModelShape.Of(description, feature => AssumedRows(feature, rows), AssumedClasses);
        }

        if (description.Data is null)
            throw new UsageException($"{path} has no data, so the sizes of its vocabularies are not known", "--vocabulary ROWS assumes one size for all");
        TrainingView view = new(context);
        using Dataset data = view.Show(() => Dataset.Open(
            description,
            Path.GetDirectoryName(Path.GetFullPath(path))!,
            encoders: null,
            p => view.OnDataProgress(new(p.Stage.ToString().ToLowerInvariant(), p.File, p.Rows, p.Length == 0 ? 1 : (double)p.BytesRead / p.Length)),
            cancellation));
        foreach (string notice in data.Notices)
            view.OnNotice(notice);
        return ModelShape.Of(description, data.Encoders);
    }

    private static int AssumedRows(FeatureDescription feature, int vocabulary) => feature switch
    {
        // Bucket 0 is for the missing value.
        { Type: FeatureType.Dense } => feature.Buckets!.Value + 1,
        { Encoding: CategoryEncoding.Vocabulary } => Math.Min(vocabulary, feature.Buckets ?? vocabulary),
        _ => feature.Buckets!.Value,
    };

    private static int AssumedClasses(TaskDescription task) =>
        task.Classes?.Count ?? throw new UsageException($"task \"{task.Name}\" names no classes, so their number is in the data only", "leave out --vocabulary to read the data");

    private static ModelShape ShapeOfCheckpoint(CheckpointFolder checkpoint)
    {
        ModelDescription description = DescriptionJson.Load(checkpoint.ModelPath);
        if (checkpoint.EncodersPath is { } encoders)
            return ModelShape.Of(description, FittedEncoders.Load(encoders));
        SafetensorsHeader weights = SafetensorsHeader.Read(checkpoint.WeightsPath);
        return ModelShape.Of(description, feature => ParameterFile.TableRows(weights, description, feature), task => ParameterFile.Classes(weights, description, task));
    }

    private static InspectResult Inspect(string deviceSpec, ModelShape shape, CheckpointFolder? checkpoint)
    {
        using Device device = Device.Open(deviceSpec);
        using MultiTaskModel model = new(device, shape.Description, shape.Layout, shape.Outputs, shape.Description.Training.BatchSize, training: true);
        return new()
        {
            Name = shape.Description.Name,
            Architecture = ParameterFile.SnakeCase(shape.Description.Architecture.Type),
            Tasks = [.. shape.Description.Tasks.Select((t, i) => new InspectedTask(t.Name, ParameterFile.SnakeCase(t.Type), shape.Outputs[i]))],
            FeatureWidth = shape.Layout.Sparse.Sum(s => s.Dimension) + shape.Layout.DenseWidth,
            Tables = [.. shape.Layout.Sparse.GroupBy(s => s.Table).Select(g => new InspectedTable(g.Key, g.First().Rows, g.First().Dimension, [.. g.Select(s => s.Name)]))],
            DenseParameters = model.Parameters.Where(p => p.Kind is not (ParameterKind.Embedding or ParameterKind.Frozen)).Sum(p => p.Count),
            EmbeddingParameters = model.Parameters.Where(p => p.Kind == ParameterKind.Embedding).Sum(p => p.Count),
            Memory = MemoryOf(model),
            Parameters = [.. model.Parameters.Select(p => new InspectedParameter(p.Name, ParameterFile.SnakeCase(p.Kind), p.Type.ToString().ToUpperInvariant(), p.Shape, p.Count))],
            Layout = LayoutNote.ReplaceLineEndings(" "),
            Checkpoint = checkpoint is null
                ? null
                : new(checkpoint.Folder, checkpoint.State.Step, checkpoint.State.Epoch, [.. checkpoint.Files.Select(f => new InspectedFile(f.Key, f.Value.Length, f.Value.Sha256))]),
        };
    }

    private static InspectedMemory MemoryOf(MultiTaskModel model)
    {
        ModelMemory memory = model.Memory;
        return new(model.MaxRows, memory.Parameters, memory.OptimizerStates, memory.Activations, memory.PackedWeights, memory.Workspace, memory.HostTables, memory.TableCaches);
    }

    private static int InspectTensors(CliContext context, string path)
    {
        if (!File.Exists(path))
            throw new UsageException($"there is no file {path}");
        SafetensorsHeader header = SafetensorsHeader.Read(path);
        if (context.Format == OutputFormat.Json)
        {
            TensorsResult result = new()
            {
                File = header.File,
                Metadata = header.Metadata,
                Tensors = [.. header.Tensors.Select(t => new InspectedParameter(t.Name, null, t.Type.Name(), t.Shape, t.Count))],
            };
            context.WriteJson(result, CliJson.Default.TensorsResult);
            return ExitCodes.Ok;
        }

        Table table = Texts.NewTable("Tensor", "Type", "Shape", "#Elements", "#Bytes");
        foreach (TensorEntry tensor in header.Tensors)
            table.AddTexts(tensor.Name, tensor.Type.Name(), $"[{string.Join(", ", tensor.Shape)}]", Texts.Count(tensor.Count), Texts.Bytes(tensor.ByteLength));
        context.WriteTable(table);
        foreach ((string key, string value) in header.Metadata)
            context.WriteRaw($"{key}: {value}\n");
        return ExitCodes.Ok;
    }

    private static void Show(CliContext context, ModelShape shape, InspectResult result, bool parameters)
    {
        context.WriteRaw($"{result.Name}: {result.Architecture}, {Texts.Count(result.DenseParameters)} dense and {Texts.Count(result.EmbeddingParameters)} embedding parameters\n");
        context.WriteRaw($"feature row of {result.FeatureWidth} numbers from {shape.Description.Features.Count} features in {result.Tables.Count} tables and {shape.Layout.DenseWidth} dense columns\n");
        context.WriteRaw($"tasks {string.Join(", ", result.Tasks.Select(t => $"{t.Name} ({t.Type}{(t.Outputs > 1 ? $", {t.Outputs} classes" : "")})"))}\n");
        InspectedMemory memory = result.Memory;
        context.WriteRaw(
            $"memory for training with batches of {memory.Rows}: {Texts.Bytes(memory.Parameters)} parameters, {Texts.Bytes(memory.OptimizerStates)} optimiser states, "
            + $"{Texts.Bytes(memory.Activations)} activations, {Texts.Bytes(memory.PackedWeights)} packed weights, {Texts.Bytes(memory.Workspace)} work space\n");
        if (memory.HostTables > 0)
            context.WriteRaw($"on the host: {Texts.Bytes(memory.HostTables)} tables with their optimiser states, of which the device caches rows in {Texts.Bytes(memory.TableCaches)}\n");
        if (result.Checkpoint is { } checkpoint)
        {
            context.WriteRaw($"checkpoint {checkpoint.Path} after step {Texts.Count(checkpoint.Step)}, epoch {checkpoint.Epoch}; every file has the length and SHA-256 of its manifest\n");
            Table files = Texts.NewTable("File", "#Size", "SHA-256");
            foreach (InspectedFile file in checkpoint.Files)
                files.AddTexts(file.Name, Texts.Bytes(file.Bytes), file.Sha256);
            context.WriteTable(files);
        }

        if (!parameters)
            return;
        Table table = Texts.NewTable("Parameter", "Kind", "Type", "Shape", "#Elements");
        foreach (InspectedParameter parameter in result.Parameters)
            table.AddTexts(parameter.Name, parameter.Kind!, parameter.Type, $"[{string.Join(", ", parameter.Shape)}]", Texts.Count(parameter.Count));
        context.WriteTable(table);
        context.WriteRaw(LayoutNote + "\n");
    }
}
