using System.CommandLine;
using System.Globalization;
using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Cli.Rendering;
using CudaMoE.Export;

namespace CudaMoE.Cli.Commands;

/// <summary>Writes a trained model for other run times.</summary>
internal sealed class ExportCommand : CliCommand
{
    private readonly Argument<string> _path = new("CHECKPOINT") { Description = CheckpointLocator.Help };

    private readonly Option<string> _format = new Option<string>("--format")
    {
        HelpName = "onnx",
        Description = "The format of the file",
        DefaultValueFactory = _ => "onnx",
    }.AcceptOnlyFromAmong("onnx");

    private readonly Option<string> _to = new("--to") { HelpName = "FILE.onnx", Description = "The model file to write", DefaultValueFactory = _ => "model.onnx" };

    private readonly Option<string?> _schema = new("--schema")
    {
        HelpName = "FILE.json",
        Description = "Also write inputs, outputs and vocabularies as JSON; the model file has the same in its metadata, which not every run time shows",
    };

    private readonly Option<bool> _texts = new("--texts") { Description = "Take features with a vocabulary as texts, which the model looks up, in place of ids" };

    private readonly Option<bool> _gates = new("--gates") { Description = "Also give the weights of the gates, gates.0 for the first level and so on" };

    private readonly Option<bool> _external = new("--external-data")
    {
        Description = "Put large weights in FILE.onnx.data beside the model; models of more than 2 GiB, which one file cannot hold, always do",
    };

    private readonly Option<bool> _force = new("--force") { Description = "Replace files that exist" };

    public ExportCommand()
        : base(
            "export",
            "Write a trained model as one ONNX file: features to predictions, for ONNX Runtime in any language.",
            "cudamoe export runs/census-20260102-030405 --format onnx --to census.onnx --schema census.json",
            "cudamoe export runs/census-20260102-030405 --texts --gates --force")
    {
        Add(_path);
        Add(_format);
        Add(_to);
        Add(_schema);
        Add(_texts);
        Add(_gates);
        Add(_external);
        Add(_force);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        string to = Path.GetFullPath(arguments.GetRequiredValue(_to));
        string? schema = arguments.GetValue(_schema) is { } file ? Path.GetFullPath(file) : null;
        if (schema == to)
            throw new UsageException("--schema and --to name the same file");
        CheckTarget(to, "--to", arguments.GetValue(_force));
        if (schema is not null)
            CheckTarget(schema, "--schema", arguments.GetValue(_force));

        OnnxExportOptions options = new() { Gates = arguments.GetValue(_gates), Texts = arguments.GetValue(_texts), ExternalData = arguments.GetValue(_external) };
        (string checkpoint, OnnxExportResult result) = CheckpointLocator.Load(arguments.GetRequiredValue(_path), checkpoint =>
        {
            cancellation.ThrowIfCancellationRequested();
            return Tuple.Create(checkpoint.Folder, OnnxExporter.Export(checkpoint, to, options));
        });
        if (schema is not null)
            AtomicFile.Write(schema, Encoding.UTF8.GetBytes(result.Schema.ToJson()));
        Answer(context, checkpoint, result, schema);
        return ExitCodes.Ok;
    }

    private static void CheckTarget(string path, string option, bool force)
    {
        if (File.Exists(path) && !force)
            throw new UsageException($"{path} exists", $"--force replaces it, {option} names another file");
        if (Path.GetDirectoryName(path) is { } folder && !Directory.Exists(folder))
            throw new UsageException($"there is no folder {folder}", $"make it, or name another file with {option}");
    }

    private static void Answer(CliContext context, string checkpoint, OnnxExportResult result, string? schema)
    {
        if (context.Format == OutputFormat.Json)
        {
            ExportResult answer = new()
            {
                Checkpoint = checkpoint,
                File = result.File,
                DataFile = result.DataFile,
                SchemaFile = schema,
                Bytes = result.Bytes,
                Inputs = [.. result.Schema.Inputs.Select(input => new ExportValue { Name = input.Name, Type = input.Type, Shape = input.Shape })],
                Outputs = [.. result.Schema.Outputs.Select(output => new ExportValue { Name = output.Name, Type = "float", Shape = output.Shape })],
                Notices = result.Schema.Notices,
            };
            context.WriteJson(answer, CliJson.Default.ExportResult);
            return;
        }

        context.WriteRaw(string.Create(
            CultureInfo.InvariantCulture,
            $"{result.File}: {Texts.Bytes(result.Bytes)}, {result.Schema.Inputs.Count} inputs, outputs {string.Join(", ", result.Schema.Outputs.Select(output => output.Name))}\n"));
        if (result.DataFile is not null)
            context.Note($"The large weights are in {result.DataFile}, which must stay beside the model.");
        foreach (string notice in result.Schema.Notices)
            context.Note(notice);
    }
}
