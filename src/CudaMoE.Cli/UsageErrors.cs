using System.CommandLine;

namespace CudaMoE.Cli;

/// <summary>Says what is wrong with a command line.</summary>
internal static class UsageErrors
{
    /// <summary>The parser's errors as one message, with the nearest name for a word that it did not know.</summary>
    public static UsageException Of(ParseResult parsed)
    {
        // A word that is not known matters more than the command that is therefore missing.
        string[] errors = parsed.UnmatchedTokens.Count > 0
            ? [.. parsed.UnmatchedTokens.Select(word => $"\"{word}\" is not a command, option or argument here")]
            : [.. parsed.Errors.Select(e => string.Join(' ', e.Message.TrimEnd('.').Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))).Distinct()];
        string message = string.Join("; ", errors);
        string help = $"'{PathOf(parsed.CommandResult.Command)} --help' shows how to write it";
        string? known = parsed.UnmatchedTokens.Select(word => Nearest(word, NamesAt(parsed.CommandResult.Command))).FirstOrDefault(name => name is not null);
        return new(message, known is null ? help : $"did you mean {known}? {help}");
    }

    /// <summary>The name nearest to a word, if one is near: at most a third of its letters differ.</summary>
    public static string? Nearest(string word, IEnumerable<string> names)
    {
        (string Name, int Distance)[] near = [.. names.Select(name => (name, Distance(word, name))).OrderBy(n => n.Item2)];
        return near.Length > 0 && near[0].Distance <= Math.Max(1, word.Length / 3) ? near[0].Name : null;
    }

    private static IEnumerable<string> NamesAt(Command command) =>
        command.Subcommands.Select(c => c.Name).Concat(command.Options.Select(o => o.Name)).Concat(command.Parents.OfType<Command>().SelectMany(p => p.Options.Select(o => o.Name)));

    private static string PathOf(Command command)
    {
        List<string> names = [];
        for (Command? at = command; at is not null; at = at.Parents.OfType<Command>().FirstOrDefault())
            names.Insert(0, at is RootCommand ? "cudamoe" : at.Name);
        return string.Join(' ', names);
    }

    // Levenshtein's, with a swap of neighbours as one.
    private static int Distance(string a, string b)
    {
        int[,] d = new int[a.Length + 1, b.Length + 1];
        for (int i = 0; i <= a.Length; i++)
        {
            for (int j = 0; j <= b.Length; j++)
            {
                if (i == 0 || j == 0)
                {
                    d[i, j] = i + j;
                    continue;
                }

                d[i, j] = Math.Min(Math.Min(d[i - 1, j], d[i, j - 1]) + 1, d[i - 1, j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1));
                if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                    d[i, j] = Math.Min(d[i, j], d[i - 2, j - 2] + 1);
            }
        }

        return d[a.Length, b.Length];
    }
}
