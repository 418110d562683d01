using System.Text.RegularExpressions;

namespace CudaMoE.Tests.Repository;

/// <summary>Things that must be in no file of the repository.</summary>
public sealed class ForbiddenContentTests
{
    // Texts in two parts, so that this file passes its own test.
    private static readonly (string Pattern, string What)[] Forbidden =
    [
        (@"(?<![\w.])/ho" + @"me/\w", "an absolute path of a home folder"),
        (@"(?<![\w.])/ro" + @"ot/", "an absolute path of a home folder"),
        (@"/Us" + @"ers/\w", "an absolute path of a home folder"),
        (@"[A-Za-z]:\\Us" + "ers", "an absolute path of a home folder"),
        (@"\bTO" + @"DO\b|\bFIX" + @"ME\b|\bXX" + @"X\b", "a note of unfinished work"),
        (@"^(<{7}|>{7}) ", "a conflict marker"),
    ];

    // Data and bundled third-party files are kept as they were published.
    private static readonly string[] Foreign = [".csv", ".tsv", ".gz", ".svg", ".min.js"];

    [Fact]
    public void TrackedFiles_AnyText_HoldsNothingForbidden()
    {
        var found = new List<string>();
        int read = 0;
        foreach (string file in SourceTree.Files())
        {
            if (Foreign.Any(ending => file.EndsWith(ending, StringComparison.Ordinal)) || SourceTree.ReadText(file) is not string text) continue;
            read++;
            foreach ((string pattern, string what) in Forbidden)
            {
                foreach (Match match in Regex.Matches(text, pattern, RegexOptions.Multiline))
                {
                    found.Add($"{file}:{1 + text.AsSpan(0, match.Index).Count('\n')}: {what}: {match.Value}");
                }
            }
        }
        Assert.True(read > 20, $"only {read} files were read");
        Assert.True(found.Count == 0, string.Join('\n', found));
    }

    [Fact]
    public void TrackedFiles_BuildOutputs_AreIgnored()
    {
        string[] outputs = ["bin/", "obj/", "build/", "TestResults/"];
        var found = SourceTree.Files().Where(file => outputs.Any(output => file.StartsWith(output, StringComparison.Ordinal) || file.Contains('/' + output, StringComparison.Ordinal)));
        Assert.Empty(found);
    }
}
