using System.CommandLine;
using CudaMoE.Checkpoints;
using CudaMoE.Cli.Probing;
using CudaMoE.Description;
using CudaMoE.Tensors;

namespace CudaMoE.Cli.Commands;

/// <summary>Outputs and gradients of a model for given parameters and inputs, to check a model that was ported from elsewhere.</summary>
internal sealed class ProbeCommand : CliCommand
{
    private readonly Argument<string> _model = new("MODEL.json") { Description = "The model file, or a stream file; its data need not be there" };

    private readonly Option<string> _parameters = new("--parameters")
    {
        HelpName = "FILE.safetensors",
        Description = "Every parameter by the name that 'cudamoe inspect --parameters' lists",
        Required = true,
    };

    private readonly Option<string> _inputs = new("--inputs")
    {
        HelpName = "FILE.safetensors",
        Description = "A tensor for each feature by its name: table rows (I32 or I64) or numbers; multi-hot features and sequences also NAME.offsets. Of a stream: states.MODALITY, sequences, popularity",
        Required = true,
    };

    private readonly Option<string?> _gradients = new("--gradients")
    {
        HelpName = "FILE.safetensors",
        Description = "A gradient on the logits for each task by its name, [rows, outputs]; without it only outputs are computed. Not for a stream, whose gradients are its loss's",
    };

    private readonly Option<string> _to = new("--to") { HelpName = "FILE.safetensors", Description = "Where outputs and gradients are written", Required = true };

    private readonly Option<string> _device = DeviceOption();

    public ProbeCommand()
        : base(
            "probe",
            "Compute a model's outputs, and the gradients of every parameter and input, from given tensors: to check a model ported from another framework.",
            "cudamoe probe model.json --parameters weights.safetensors --inputs batch.safetensors --gradients dlogits.safetensors --to answer.safetensors")
    {
        Add(_model);
        Add(_parameters);
        Add(_inputs);
        Add(_gradients);
        Add(_to);
        Add(_device);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        string path = arguments.GetRequiredValue(_model);
        if (ModelFile.IsStream(path))
            return RunStream(path, arguments, context);
        ModelDescription description = ModelFile.Load(path, []);
        using SafetensorsReader parameters = Open(arguments.GetRequiredValue(_parameters));
        using SafetensorsReader inputFile = Open(arguments.GetRequiredValue(_inputs));
        using SafetensorsReader? gradients = arguments.GetValue(_gradients) is { } given ? Open(given) : null;
        ModelShape shape = ModelShape.Of(
            description, feature => ParameterFile.TableRows(parameters.Header, description, feature), task => ParameterFile.Classes(parameters.Header, description, task));
        using ProbeInputs inputs = ProbeInputs.Read(shape, inputFile);
        using Device device = Device.Open(arguments.GetRequiredValue(_device));
        SafetensorsWriter writer = new();
        Probe.Run(device, inputs, parameters, gradients, writer);
        Save(arguments, context, writer, inputs.Rows);
        return ExitCodes.Ok;
    }

    private int RunStream(string path, ParseResult arguments, CliContext context)
    {
        StreamDescription description = ModelFile.LoadStream(path, []);
        if (arguments.GetValue(_gradients) is not null)
            throw new UsageException("--gradients has no effect on a stream; the gradients are those of its loss");
        using SafetensorsReader parameters = Open(arguments.GetRequiredValue(_parameters));
        using SafetensorsReader inputs = Open(arguments.GetRequiredValue(_inputs));
        using Device device = Device.Open(arguments.GetRequiredValue(_device));
        SafetensorsWriter writer = new();
        int rows = StreamProbing.Run(device, description, parameters, inputs, writer);
        Save(arguments, context, writer, rows);
        return ExitCodes.Ok;
    }

    private void Save(ParseResult arguments, CliContext context, SafetensorsWriter writer, int rows)
    {
        string to = Path.GetFullPath(arguments.GetRequiredValue(_to));
        writer.Save(to);
        if (context.Format == OutputFormat.Json)
            context.WriteJson(new() { File = to, Rows = rows, Tensors = [.. SafetensorsHeader.Read(to).Tensors.Select(t => t.Name).Order(StringComparer.Ordinal)] }, CliJson.Default.ProbeResult);
        else
            context.WriteRaw($"{to}\n");
    }

    private static SafetensorsReader Open(string path) =>
        File.Exists(path) ? SafetensorsReader.Open(path) : throw new UsageException($"there is no file {path}");
}
