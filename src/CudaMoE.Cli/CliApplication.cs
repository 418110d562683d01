using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using CudaMoE.Cli.Commands;

namespace CudaMoE.Cli;

/// <summary>The command tree, and what surrounds every command: parsing, help, errors, exit codes.</summary>
internal static class CliApplication
{
    /// <summary>The tree of commands.</summary>
    public static RootCommand CreateRoot()
    {
        RootCommand root = new("Trains, evaluates and inspects multi-task recommendation models.")
        {
            OutputOption,
            VerboseOption,
            new InitCommand(),
            new TrainCommand(),
            new ResumeCommand(),
            new ExperimentCommand(),
            new StreamCommand(),
            new EncodeCommand(),
            new EvaluateCommand(),
            new PredictCommand(),
            new ExportCommand(),
            new InspectCommand(),
            new ProbeCommand(),
            new ImportCommand(),
            new ReportCommand(),
            new GraphCommand(),
            new DevicesCommand(),
            new DoctorCommand(),
            new BenchCommand(),
        };
        foreach (HelpOption help in root.Options.OfType<HelpOption>())
            help.Action = new HelpWithExamples((HelpAction)help.Action!);
        return root;
    }

    /// <summary>Runs one command line.</summary>
    /// <returns>The exit code, see <see cref="ExitCodes"/>.</returns>
    public static int Run(IReadOnlyList<string> arguments, TextWriter output, TextWriter error, CancellationToken cancellation)
    {
        RootCommand root = CreateRoot();
        if (arguments.Count == 0)
        {
            root.Parse("--help").Invoke(new() { Output = error, Error = error });
            return ExitCodes.Usage;
        }

        ParseResult parsed = root.Parse(arguments);
        // Of a wrong command line nothing may have been parsed.
        string[] asJson = [JsonFormat, $"{OutputOption.Name}={JsonFormat}", $"{OutputOption.Name}:{JsonFormat}"];
        bool json = parsed.Errors.Count == 0 ? parsed.GetValue(OutputOption) == JsonFormat : arguments.Intersect(asJson).Any();
        CliContext context = new(output, error, json ? OutputFormat.Json : OutputFormat.Text, arguments.Contains(VerboseOption.Name));
        try
        {
            // Help, version and completion are actions of the parser's own; commands have none.
            if (parsed.Action is not null and not ParseErrorAction)
                return parsed.Invoke(new() { Output = output, Error = error, EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
            if (parsed.Errors.Count > 0)
                throw UsageErrors.Of(parsed);
            return ((CliCommand)parsed.CommandResult.Command).Run(parsed, context, cancellation);
        }
        catch (Exception e)
        {
            return ErrorPrinter.Print(context, e);
        }
    }

    private const string JsonFormat = "json";

    private static Option<string> OutputOption { get; } = new Option<string>("--output")
    {
        HelpName = "text|json",
        Description = "How to answer on standard output: text for people, or one JSON document. Progress and errors go to standard error",
        Recursive = true,
        DefaultValueFactory = _ => "text",
    }.AcceptOnlyFromAmong("text", JsonFormat);

    private static Option<bool> VerboseOption { get; } = new("--verbose") { Description = "Show stack traces with errors", Recursive = true };
}
