using System.CommandLine;
using CudaMoE.Checkpoints;
using CudaMoE.Cli.Importing;
using CudaMoE.Description;

namespace CudaMoE.Cli.Commands;

/// <summary>Takes a model's parameters from a file of another program.</summary>
internal sealed class ImportCommand : CliCommand
{
    private readonly Argument<string> _model = new("MODEL.json") { Description = "The model file, or with --layout xsmoe a stream file; its data need not be there" };

    private readonly Option<string> _from = new("--from") { HelpName = "FILE.safetensors", Description = "The tensors of the other program", Required = true };

    private readonly Option<string?> _layout = new Option<string?>("--layout")
    {
        HelpName = "adatt|grec|xsmoe",
        Description = "Whose names and shapes they have: adatt = the library of AdaTT's authors, with PLE, MMoE, cross-stitch and shared bottom; grec = the released code of GRec; xsmoe = the code of XSMoE's authors. Without it --names says all",
    }.AcceptOnlyFromAmong("adatt", "grec", "xsmoe");

    private readonly Option<string> _prefix = new("--prefix")
    {
        HelpName = "TEXT",
        Description = "What stands before the layout's names in the file, such as \"model.\"",
        DefaultValueFactory = _ => "",
    };

    private readonly Option<string?> _names = new("--names") { HelpName = "MAP.json", Description = "Tensors by the names of the parameters, e.g. of embedding tables" };

    private readonly Option<string> _to = new("--to") { HelpName = "FILE.safetensors", Description = "Where the model's parameters are written", Required = true };

    public ImportCommand()
        : base(
            "import",
            "Take the parameters of a model from a file of another program, such as a PyTorch implementation; 'probe' and 'train --parameters' read the result.",
            "cudamoe import model.json --from adatt.safetensors --layout adatt --to weights.safetensors",
            "cudamoe import model.json --from theirs.safetensors --layout adatt --prefix model.over. --names map.json --to weights.safetensors")
    {
        Add(_model);
        Add(_from);
        Add(_layout);
        Add(_prefix);
        Add(_names);
        Add(_to);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        string model = arguments.GetRequiredValue(_model);
        string from = arguments.GetRequiredValue(_from);
        if (!File.Exists(from))
            throw new UsageException($"there is no file {from}");
        string? map = arguments.GetValue(_names);
        string? layout = arguments.GetValue(_layout);
        if (layout is null && map is null)
            throw new UsageException("neither --layout nor --names is given; one of them must say which tensor is which parameter");
        if (layout is null && arguments.GetResult(_prefix) is { Implicit: false })
            throw new UsageException("--prefix has no effect without --layout; names of a map are taken as they are");
        NameMap? names = map is null ? null : NameMap.Load(map);
        string to = Path.GetFullPath(arguments.GetRequiredValue(_to));
        if (to == Path.GetFullPath(from))
            throw new UsageException($"--to is {to}, which is read; choose another file");
        using SafetensorsReader file = SafetensorsReader.Open(from);
        SafetensorsWriter writer = new();
        (int parameters, int tensors) = Importer(model, layout, file, names, arguments.GetRequiredValue(_prefix)).Run(writer);
        writer.Save(to);
        if (context.Format == OutputFormat.Json)
            context.WriteJson(new() { File = to, Parameters = parameters, Tensors = tensors }, CliJson.Default.ImportResult);
        else
            context.WriteRaw($"{to}\n{parameters} parameters from {tensors} tensors\n");
        return ExitCodes.Ok;
    }

    private static WeightImporter Importer(string model, string? layout, SafetensorsReader file, NameMap? names, string prefix)
    {
        if (layout == "xsmoe" || ModelFile.IsStream(model))
        {
            if (layout != "xsmoe")
                throw new UsageException($"{model} is a stream file; import takes its parameters with --layout xsmoe");
            StreamDescription stream = ModelFile.LoadStream(model, []);
            XsmoeLayout xsmoe = new(stream);
            return new(ImportTargets.Of(stream, xsmoe.Sides(file.Header, prefix)), file, xsmoe, names, prefix);
        }

        ModelDescription description = ModelFile.Load(model, []);
        ImportLayout? known = layout switch
        {
            "adatt" => new AdattLayout(description),
            "grec" => new GrecLayout(description),
            _ => null,
        };
        return new(ImportTargets.Of(description, file.Header, known, names, prefix), file, known, names, prefix);
    }
}
