using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;
using CudaMoE.Export;
using CudaMoE.Training;

namespace CudaMoE.Cli;

/// <summary>Turns an exception into what the user sees: a message, a hint, an exit code; a stack trace only when asked for, or for a defect.</summary>
internal static class ErrorPrinter
{
    /// <summary>Prints the error and returns the exit code.</summary>
    public static int Print(CliContext context, Exception error)
    {
        CliError shown = Describe(error);
        context.Note(shown.Kind == "cancelled" ? shown.Message : $"error: {shown.Message}");
        if (shown.Hint is not null)
            context.Note($"hint: {shown.Hint}");
        if (context.Verbose)
            context.Note(error.ToString());
        if (context.Format == OutputFormat.Json)
            context.WriteJson(new() { Error = shown }, CliJson.Default.ErrorResult);
        return shown.ExitCode;
    }

    /// <summary>What an exception means to the user.</summary>
    public static CliError Describe(Exception error) => error switch
    {
        OperationCanceledException => new() { Kind = "cancelled", Message = "cancelled", ExitCode = ExitCodes.Cancelled },
        UsageException e => Usage("usage", e.Message, e.Hint),
        DescriptionException e => Usage("description", e.Message, "'cudamoe init DATA.csv' writes a model file that is right, with comments"),
        DataException e => Usage("data", e.Message, "correct the file, or the data section of the model file"),
        CheckpointFormatException e => Usage("checkpoint", e.Message, "the file is incomplete or was changed; a run folder keeps other checkpoints under checkpoints/"),
        ExportException e => Usage("export", e.Message, null),
        RunLogException { InnerException: FileNotFoundException or DirectoryNotFoundException } e => Usage("file", e.Message, null),
        RunLogException { InnerException: IOException or UnauthorizedAccessException } e => new() { Kind = "file", Message = e.Message, ExitCode = ExitCodes.Failed },
        RunLogException e => Usage("run_folder", e.Message, "a run folder is what 'cudamoe train' makes, e.g. runs/census-20260102-030405"),
        NativeLibraryException e => Environmental("native_library", e.Message, "'cudamoe doctor' shows what was looked for and where"),
        NativeArgumentException e => Usage("argument", e.Message, null),
        NativeUnsupportedException e => Environmental("unsupported", e.Message, "'cudamoe devices' shows what can be used here"),
        DeviceException e => Environmental("device", e.Message, "'cudamoe devices' shows what can be used here"),
        DeviceOutOfMemoryException e => Environmental("memory", e.Message, "a smaller training.batch_size, or smaller embedding tables, need less memory"),
        CudaMoEException e => new() { Kind = "failed", Message = e.Message, ExitCode = ExitCodes.Failed },
        FileNotFoundException or DirectoryNotFoundException => Usage("file", error.Message, null),
        IOException or UnauthorizedAccessException => new() { Kind = "file", Message = error.Message, ExitCode = ExitCodes.Failed },
        _ => new()
        {
            Kind = "defect",
            Message = $"this is a defect of cudamoe: {error.GetType().Name}: {error.Message}",
            Hint = "run the command again with --verbose and report what it prints",
            ExitCode = ExitCodes.Failed,
        },
    };

    private static CliError Usage(string kind, string message, string? hint) =>
        new() { Kind = kind, Message = message, Hint = hint, ExitCode = ExitCodes.Usage };

    private static CliError Environmental(string kind, string message, string hint) =>
        new() { Kind = kind, Message = message, Hint = hint, ExitCode = ExitCodes.Environment };
}
