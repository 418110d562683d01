using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Spectre.Console;

namespace CudaMoE.Cli;

/// <summary>How results are written to standard output.</summary>
internal enum OutputFormat
{
    /// <summary>For people.</summary>
    Text,

    /// <summary>One JSON document.</summary>
    Json,
}

/// <summary>
/// Where a command writes. Results go to standard output, as text or as one JSON document; progress, notes and errors go to standard error,
/// so that output can be piped in either format.
/// </summary>
internal sealed class CliContext
{
    private readonly TextWriter _error;

    /// <param name="output">Standard output.</param>
    /// <param name="error">Standard error.</param>
    /// <param name="format">How results are written.</param>
    /// <param name="verbose">Whether errors come with stack traces.</param>
    /// <param name="clock">Measures progress; null = the system's.</param>
    /// <param name="log">The console on standard error; null = one that fits <paramref name="error"/>.</param>
    public CliContext(TextWriter output, TextWriter error, OutputFormat format, bool verbose, TimeProvider? clock = null, IAnsiConsole? log = null)
    {
        Output = output;
        _error = error;
        Format = format;
        Verbose = verbose;
        Clock = clock ?? TimeProvider.System;
        Result = Console(output);
        Log = log ?? Console(error);
    }

    /// <summary>Standard output as it is, for data.</summary>
    public TextWriter Output { get; }

    public OutputFormat Format { get; }

    /// <summary>Whether errors come with stack traces.</summary>
    public bool Verbose { get; }

    public TimeProvider Clock { get; }

    /// <summary>Standard output of a terminal; in text format only.</summary>
    private IAnsiConsole Result { get; }

    /// <summary>Standard error, for progress and notes.</summary>
    public IAnsiConsole Log { get; }

    /// <summary>Writes the one JSON document of a command.</summary>
    public void WriteJson<T>(T value, JsonTypeInfo<T> type)
    {
        using MemoryStream bytes = new();
        // Standard output is no HTML page, so quotes and letters of other scripts stay readable.
        using (Utf8JsonWriter writer = new(bytes, new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
            JsonSerializer.Serialize(writer, value, type);
        Output.WriteLine(Encoding.UTF8.GetString(bytes.GetBuffer().AsSpan(0, (int)bytes.Length)));
    }

    /// <summary>Writes a table for people to standard output.</summary>
    public void WriteTable(Table table)
    {
        if (Result.Profile.Out.IsTerminal)
        {
            Result.Write(table);
            return;
        }

        // In files and pipes the blanks that fill a terminal's lines are in the way.
        using StringWriter text = new();
        Console(text).Write(table);
        foreach (string line in text.ToString().Split('\n').Select(l => l.TrimEnd()).Where(l => l.Length > 0))
            Output.WriteLine(line);
    }

    /// <summary>Writes text as it is to standard output.</summary>
    public void WriteRaw(string text) => Output.Write(text);

    /// <summary>A note for people on standard error.</summary>
    public void Note(string text)
    {
        text = Visible(text);
        // A terminal may show live progress, which its console moves out of the way; a file or pipe gets the line as it is, not folded.
        if (Log.Profile.Out.IsTerminal)
            Log.WriteLine(text);
        else
            _error.WriteLine(text);
    }

    // Messages quote files, whose control characters would steer the terminal.
    private static string Visible(string text)
    {
        if (!text.Any(IsInvisible))
            return text;
        StringBuilder visible = new();
        foreach (char c in text)
            _ = IsInvisible(c) ? visible.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:X4}") : visible.Append(c);
        return visible.ToString();

        static bool IsInvisible(char c) => char.IsControl(c) && c is not ('\n' or '\r' or '\t');
    }

    private static IAnsiConsole Console(TextWriter writer)
    {
        // NO_COLOR (no-color.org) asks for no colours; bold and cursor movement are left out with them.
        bool plain = !string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR"));
        IAnsiConsole console = AnsiConsole.Create(new()
        {
            Out = new AnsiConsoleOutput(writer),
            Ansi = plain ? AnsiSupport.No : AnsiSupport.Detect,
            ColorSystem = plain ? ColorSystemSupport.NoColors : ColorSystemSupport.Detect,
            Interactive = plain ? InteractionSupport.No : InteractionSupport.Detect,
        });
        if (!console.Profile.Out.IsTerminal)
        {
            // Files and pipes have no width to fit into.
            console.Profile.Width = 240;
            console.Profile.Capabilities.Ansi = false;
            console.Profile.Capabilities.Interactive = false;
        }

        return console;
    }
}
