using System.Globalization;
using System.Text.RegularExpressions;

namespace CudaMoE.Tests.Repository;

/// <summary>
/// The documentation is true: a C# block is the text of a source file that the solution compiles, named in a comment above the block
/// (<c>&lt;!-- samples/QuickStart/Program.cs --&gt;</c>, or with <c>#name</c> the lines between <c>#region name</c> and <c>#endregion</c>), and what
/// a page links to exists.
/// </summary>
public sealed partial class DocumentationTests
{
    public static TheoryData<string> Pages() => [.. SourceTree.Files().Where(file => file.EndsWith(".md", StringComparison.Ordinal) && !file.StartsWith("data/", StringComparison.Ordinal))];

    [Theory]
    [MemberData(nameof(Pages))]
    public void Page_CSharpBlocks_AreTheTextOfTheirFiles(string page)
    {
        string text = SourceTree.ReadText(page)!;
        int blocks = Regex.Count(text, "^```(csharp|cs|c#)", RegexOptions.Multiline | RegexOptions.IgnoreCase);
        MatchCollection named = NamedBlock().Matches(text);
        Assert.True(named.Count == blocks, $"{page} has {blocks} C# blocks, and {named.Count} of them follow a comment that names their file");
        foreach (Match block in named)
        {
            string file = block.Groups["file"].Value;
            Assert.True(File.Exists(Path.Combine(SourceTree.Root, file)), $"{page} takes a block from {file}, which does not exist");
            string expected = block.Groups["region"].Success ? Region(SourceTree.ReadText(file)!, block.Groups["region"].Value, file) : SourceTree.ReadText(file)!;
            Assert.Equal(expected.TrimEnd('\n'), block.Groups["code"].Value.TrimEnd('\n'));
        }
    }

    [Theory]
    [MemberData(nameof(Pages))]
    public void Page_RelativeLinks_LeadToFiles(string page)
    {
        string text = CodeBlock().Replace(SourceTree.ReadText(page)!, "");
        string folder = Path.GetDirectoryName(Path.Combine(SourceTree.Root, page))!;
        var broken = Link().Matches(text)
            .Select(link => link.Groups["target"].Value)
            .Where(target => !target.Contains("://", StringComparison.Ordinal) && !target.StartsWith('#'))
            .Select(target => target.Split('#')[0])
            .Where(target => !File.Exists(Path.Combine(folder, target)) && !Directory.Exists(Path.Combine(folder, target)));
        Assert.Empty(broken);
    }

    [Fact]
    public void Readme_HoldsTheQuickStart()
    {
        string[] files = [.. NamedBlock().Matches(SourceTree.ReadText("README.md")!).Select(block => block.Groups["file"].Value)];
        Assert.Contains("samples/QuickStart/Program.cs", files);
    }

    [Fact]
    public void QuickStart_Run_TrainsAndPrintsTheMetricsOfEveryTask()
    {
        string configuration = new DirectoryInfo(AppContext.BaseDirectory).Parent!.Name;
        string program = Path.Combine(SourceTree.Root, "samples/QuickStart/bin", configuration, "net10.0/QuickStart.dll");
        Assert.True(File.Exists(program), program + " was not built; build the whole solution");

        ProcessResult result = SourceTree.Run("dotnet", [program], TimeSpan.FromMinutes(10));

        Assert.True(result.ExitCode == 0, result.Output + result.Error);
        foreach (string task in (string[])["income", "never_married", "college"])
        {
            Match line = Regex.Match(result.Output, $@"^{task} .*\bauc (?<auc>0\.\d+)", RegexOptions.Multiline);
            Assert.True(line.Success, result.Output);
            Assert.InRange(double.Parse(line.Groups["auc"].Value, CultureInfo.InvariantCulture), 0.8, 1);
        }
        string checkpoint = Regex.Match(result.Output, "^checkpoint: (?<path>.+)$", RegexOptions.Multiline).Groups["path"].Value;
        Assert.True(Directory.Exists(Path.Combine(SourceTree.Root, checkpoint)), result.Output);
    }

    private static string Region(string text, string name, string file)
    {
        Match region = Regex.Match(text, $@"^[ ]*#region {Regex.Escape(name)}\n(?<code>.*?)^[ ]*#endregion", RegexOptions.Multiline | RegexOptions.Singleline);
        Assert.True(region.Success, $"{file} has no region \"{name}\"");
        string[] lines = region.Groups["code"].Value.Split('\n');
        int indent = lines.Where(line => line.Trim().Length > 0).Min(line => line.Length - line.TrimStart().Length);
        return string.Join('\n', lines.Select(line => line.Length >= indent ? line[indent..] : ""));
    }

    [GeneratedRegex(@"^<!-- (?<file>[\w./-]+?\.cs)(#(?<region>[\w-]+))? -->\n```csharp\n(?<code>.*?)^```", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex NamedBlock();

    [GeneratedRegex(@"^```.*?^```|`[^`\n]*`", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex CodeBlock();

    [GeneratedRegex(@"\]\((?<target>[^)\s]+)\)")]
    private static partial Regex Link();
}
