using System.Text;
using System.Text.RegularExpressions;

namespace CudaMoE.CudaReport;

/// <summary>The top level of a PTX module: directives, declarations, functions and kernels.</summary>
internal sealed partial class PtxModule
{
    /// <summary>A declaration, function or kernel; <see cref="Name"/> is what others call it by.</summary>
    internal sealed record Part(string Name, bool IsEntry, string Text);

    private readonly string directives;
    private readonly List<Part> parts;

    private PtxModule(string directives, List<Part> parts) => (this.directives, this.parts) = (directives, parts);

    public IEnumerable<Part> Entries => parts.Where(p => p.IsEntry);

    public static PtxModule Parse(string text)
    {
        var directives = new StringBuilder();
        var parts = new List<Part>();
        var current = new StringBuilder();
        int depth = 0;
        foreach (string line in OwnName().Replace(text, "").Split('\n'))
        {
            string trimmed = line.Trim();
            if (current.Length == 0 && (trimmed.Length == 0 || trimmed.StartsWith("//", StringComparison.Ordinal)))
                continue;
            if (current.Length == 0 && Directive().IsMatch(trimmed))
            {
                directives.Append(line).Append('\n');
                continue;
            }
            current.Append(line).Append('\n');
            string code = Comment().Replace(line, "");
            depth += code.Count(c => c is '{' or '(') - code.Count(c => c is '}' or ')');
            bool ends = trimmed.EndsWith('}') || trimmed.EndsWith(';');
            if (depth != 0 || !ends)
                continue;
            string whole = current.ToString();
            current.Clear();
            parts.Add(new Part(Name().Match(whole).Groups["name"].Value, whole.Contains(".entry ", StringComparison.Ordinal), whole));
        }
        return new PtxModule(directives.ToString(), parts);
    }

    /// <summary>A module of one kernel and of the declarations that it needs.</summary>
    public string WithOnly(Part entry)
    {
        var needed = new HashSet<Part> { entry };
        for (bool grows = true; grows;)
        {
            grows = false;
            string text = string.Concat(needed.Select(p => p.Text));
            foreach (Part part in parts.Where(p => !p.IsEntry && p.Name.Length > 0))
                grows |= Regex.IsMatch(text, $@"(?<![\w$]){Regex.Escape(part.Name)}(?![\w$])") && needed.Add(part);
        }
        return directives + "\n" + string.Join("\n", parts.Where(needed.Contains).Select(p => p.Text));
    }

    // Before the name of a function that only its file knows, nvcc -rdc=true sets one of the file.
    [GeneratedRegex(@"\b__nv_static_\d+__[0-9a-f]{8}_\w*?_cu_[0-9a-f]{8}_(?=_Z)")]
    private static partial Regex OwnName();

    [GeneratedRegex(@"^\.(version|target|address_size)\b")]
    private static partial Regex Directive();

    [GeneratedRegex(@"//.*$")]
    private static partial Regex Comment();

    // The name of a function stands before its parameters, after the return value; that of a variable before its dimension, value or end.
    [GeneratedRegex(@"(?:\.entry|\.func(?:\s*\(.*?\))?)\s+(?<name>[\w$]+)|(?<=\s)(?<name>[\w$]+)(?=\s*(?:\[|=|;))", RegexOptions.Singleline)]
    private static partial Regex Name();
}
