using System.CommandLine;
using System.Text;
using CudaMoE.Checkpoints;
using CudaMoE.Cli.Rendering;
using CudaMoE.Cli.Starter;
using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Cli.Commands;

/// <summary>Writes a starter model file from a data file.</summary>
internal sealed class InitCommand : CliCommand
{
    private readonly Argument<string> _data = new("DATA.csv") { Description = "Training rows: CSV, TSV or alike, plain or .gz" };

    private readonly Option<string> _to = new("--to") { HelpName = "FILE", Description = "The model file to write", DefaultValueFactory = _ => "model.json" };

    private readonly Option<string[]> _tasks = new("--task")
    {
        HelpName = "COLUMN[:TYPE|=VALUE]",
        Description = "A column to predict, as often as there are tasks; TYPE is binary, regression or multiclass; =VALUE makes a binary task of one value. Default: a guess",
    };

    private readonly Option<string[]> _ignore = new("--ignore") { HelpName = "COLUMN", Description = "A column to leave out, as often as needed" };

    private readonly Option<string?> _test = new("--test") { HelpName = "TEST.csv", Description = "Rows for the final test, of the same format" };

    private readonly Option<string?> _separator = new("--separator") { HelpName = "CHAR", Description = "The character between fields; 'tab' for a tab. Default: a guess" };

    private readonly Option<bool?> _header = new("--header") { HelpName = "true|false", Description = "Whether the first line names the columns. Default: a guess" };

    private readonly Option<string?> _columns = new("--columns") { HelpName = "A,B,...", Description = "Names of the columns of a file without a header, in order" };

    private readonly Option<int> _rows = new("--sample") { HelpName = "ROWS", Description = "Rows to look at", DefaultValueFactory = _ => 50_000 };

    private readonly Option<bool> _force = new("--force") { Description = "Replace the model file if it exists" };

    public InitCommand()
        : base(
            "init",
            "Write a commented starter model file from a data file: features and tasks are guessed from a sample of the rows.",
            "cudamoe init ratings.csv --task rating --task watched:binary",
            "cudamoe init train.csv.gz --test test.csv.gz --task clicked --ignore row_number --to clicks.json",
            "cudamoe init census.data --columns age,work,income --task income=50000+")
    {
        Add(_data);
        Add(_to);
        Add(_tasks);
        Add(_ignore);
        Add(_test);
        Add(_separator);
        Add(_header);
        Add(_columns);
        Add(_rows);
        Add(_force);
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        string data = arguments.GetRequiredValue(_data);
        string to = Path.GetFullPath(arguments.GetRequiredValue(_to));
        if (File.Exists(to) && !arguments.GetValue(_force))
            throw new UsageException($"{to} exists", "--force replaces it, --to names another file");
        if (arguments.GetValue(_rows) < 1)
            throw new UsageException($"--sample is {arguments.GetValue(_rows)}; it must be at least 1");
        FileFormat format = TextLayout.Detect(data, Separator(arguments.GetValue(_separator)), arguments.GetValue(_header), arguments.GetValue(_columns)?.Split(','));
        ColumnSample[] columns = Sample(data, format, arguments.GetValue(_rows), out bool whole, cancellation);
        StarterContent content = Guess(arguments, columns, whole, format, data, to);
        string text = StarterFile.Write(content);
        // The file must be right as it stands; a guess that is not is a defect of the guesser, and is not written.
        DescriptionJson.Parse(text);
        AtomicFile.Write(to, Encoding.UTF8.GetBytes(text));
        Answer(context, content, to);
        return ExitCodes.Ok;
    }

    private static char? Separator(string? given) => given switch
    {
        null => null,
        "tab" or "\\t" => '\t',
        { Length: 1 } => given[0],
        _ => throw new UsageException($"--separator is \"{given}\"; it must be one character, or 'tab'"),
    };

    private static ColumnSample[] Sample(string path, FileFormat format, int rows, out bool whole, CancellationToken cancellation)
    {
        using DelimitedReader reader = new(path, format);
        ColumnSample[] columns = [.. reader.Columns.Select(name => new ColumnSample(name))];
        if (columns.Select(c => c.Name).Distinct().Count() != columns.Length)
            throw new DataException("two columns have the same name; every column needs its own", path, 1);
        while (reader.Rows < rows && reader.Read())
        {
            cancellation.ThrowIfCancellationRequested();
            for (int i = 0; i < columns.Length; i++)
                columns[i].Add(reader.Field(i));
        }

        whole = !reader.Read();
        return columns[0].Rows > 0 ? columns : throw new DataException("the file has no rows beside its header", path);
    }

    private StarterContent Guess(ParseResult arguments, ColumnSample[] columns, bool whole, FileFormat format, string data, string to)
    {
        string[] named = arguments.GetValue(_tasks) ?? [];
        TaskGuess[] tasks = named.Length > 0 ? [.. named.Select(t => NamedTask(t, columns, whole))] : [StarterGuess.Task(StarterGuess.LikelyLabel(columns), type: null, positive: null, whole)];
        if (tasks.Select(t => t.Column).Distinct().Count() != tasks.Length)
            throw new UsageException("--task names a column twice");
        ColumnSample[] ignored = [.. (arguments.GetValue(_ignore) ?? []).Select(name => Find(columns, name))];
        ColumnGuess[] guesses =
        [
            .. columns.Where(c => !tasks.Any(t => t.Column == c)).Select(c => ignored.Contains(c) ? new(c, null, "was to be ignored") : StarterGuess.Feature(c)),
        ];
        if (!guesses.Any(g => g.Feature is not null))
            throw new UsageException($"{data} has no column that could be a feature beside the tasks");
        string folder = Path.GetDirectoryName(to)!;
        return new()
        {
            Name = ModelName(data),
            Format = format with { Missing = [.. columns.SelectMany(c => c.MissingSeen).Distinct().Order(StringComparer.Ordinal)] },
            Train = RelativePath(folder, data),
            Test = arguments.GetValue(_test) is { } test ? RelativePath(folder, test) : null,
            SampleRows = columns[0].Rows,
            Columns = guesses,
            Tasks = tasks,
            TasksGuessed = named.Length == 0,
        };
    }

    private static TaskGuess NamedTask(string given, ColumnSample[] columns, bool whole)
    {
        // A column's own name may hold ':' or '='.
        if (Array.Exists(columns, c => c.Name == given))
            return StarterGuess.Task(Find(columns, given), type: null, positive: null, whole);
        int equals = given.IndexOf('=', StringComparison.Ordinal);
        if (equals > 0)
            return StarterGuess.Task(Find(columns, given[..equals]), TaskType.Binary, given[(equals + 1)..].Trim(), whole);
        int colon = given.LastIndexOf(':');
        if (colon <= 0)
            return StarterGuess.Task(Find(columns, given), type: null, positive: null, whole);
        TaskType type = given[(colon + 1)..] switch
        {
            "binary" => TaskType.Binary,
            "regression" => TaskType.Regression,
            "multiclass" => TaskType.Multiclass,
            string other => throw new UsageException($"--task {given}: \"{other}\" is not a type of task", "types are binary, regression and multiclass"),
        };
        return StarterGuess.Task(Find(columns, given[..colon]), type, positive: null, whole);
    }

    private static ColumnSample Find(ColumnSample[] columns, string name) =>
        Array.Find(columns, c => c.Name == name)
        ?? throw new UsageException(
            $"there is no column \"{name}\"",
            UsageErrors.Nearest(name, columns.Select(c => c.Name)) is { } near ? $"did you mean \"{near}\"?" : $"the columns are {string.Join(", ", columns.Take(60).Select(c => c.Name))}");

    private static string RelativePath(string folder, string path) => Path.GetRelativePath(folder, Path.GetFullPath(path)).Replace('\\', '/');

    // The file's name up to its first dot, with what a model's name may not hold replaced.
    private static string ModelName(string path)
    {
        string stem = Path.GetFileName(path).TrimStart('.').Split('.')[0];
        string name = new([.. stem.Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' ? c : '-')]);
        return name.Trim('-').Length == 0 ? "model" : name.Trim('-');
    }

    private static void Answer(CliContext context, StarterContent content, string to)
    {
        int features = content.Columns.Count(c => c.Feature is not null);
        if (context.Format == OutputFormat.Json)
        {
            InitResult result = new()
            {
                Model = to,
                SampleRows = content.SampleRows,
                Features = features,
                Tasks = [.. content.Tasks.Select(t => t.Task.Name)],
                TasksGuessed = content.TasksGuessed,
                LeftOut = [.. content.Columns.Where(c => c.Feature is null).Select(c => c.Column.Name)],
            };
            context.WriteJson(result, CliJson.Default.InitResult);
            return;
        }

        context.WriteRaw($"{to}: {features} features, tasks {string.Join(", ", content.Tasks.Select(t => $"{t.Task.Name} ({t.Task.Type.ToString().ToLowerInvariant()})"))}\n");
        if (content.TasksGuessed)
            context.Note("The task was guessed; --task COLUMN names it.");
        context.Note($"Read the file through, then: cudamoe train {Texts.Argument(Path.GetRelativePath(Environment.CurrentDirectory, to))}");
    }
}
