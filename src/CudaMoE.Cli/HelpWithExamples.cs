using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace CudaMoE.Cli;

/// <summary>The parser's help, with the command's examples behind it.</summary>
internal sealed class HelpWithExamples(HelpAction help) : SynchronousCommandLineAction
{
    public override int Invoke(ParseResult parseResult)
    {
        // The parser names the tool after its assembly, which cannot be called cudamoe: that is the library's name where case does not count.
        TextWriter output = parseResult.InvocationConfiguration.Output;
        using StringWriter text = new();
        parseResult.InvocationConfiguration.Output = text;
        int code = help.Invoke(parseResult);
        parseResult.InvocationConfiguration.Output = output;
        output.Write(text.ToString().Replace(RootCommand.ExecutableName, "cudamoe", StringComparison.Ordinal).TrimEnd('\n', '\r'));
        output.WriteLine();
        output.WriteLine();
        IReadOnlyList<string> examples = parseResult.CommandResult.Command switch
        {
            CliCommand command => command.Examples,
            RootCommand => ["cudamoe init data.csv --task clicked", "cudamoe train model.json", "cudamoe predict runs/NAME new.csv --to predictions.csv"],
            _ => [],
        };
        if (examples.Count == 0)
            return code;
        output.WriteLine(examples.Count == 1 ? "Example:" : "Examples:");
        foreach (string example in examples)
            output.WriteLine($"  {example}");
        return code;
    }
}
