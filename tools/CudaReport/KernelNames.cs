using System.Text.RegularExpressions;

namespace CudaMoE.CudaReport;

/// <summary>
/// Brings the names that two compilers give to one kernel together: demangled, without what differs between them (the names of anonymous
/// namespaces, the parameter list's qualifiers) and without the namespaces that all kernels share.
/// </summary>
internal static partial class KernelNames
{
    /// <summary>The kernels' names for mangled ones.</summary>
    public static Dictionary<string, string> Demangle(IReadOnlyCollection<string> mangled)
    {
        var names = new Dictionary<string, string>();
        foreach (string[] part in mangled.Distinct().Chunk(500))
        {
            string[] lines = Tool.Run("c++filt", part).Split('\n', StringSplitOptions.RemoveEmptyEntries);
            for (int i = 0; i < part.Length; i++)
                names[part[i]] = Normalise(lines[i]);
        }
        return names;
    }

    /// <summary><c>product_kernel&lt;float, true&gt;(GemmProduct)</c> from what c++filt prints.</summary>
    internal static string Normalise(string demangled)
    {
        string name = demangled.Trim().Replace("(anonymous namespace)::", "", StringComparison.Ordinal);
        name = name.Replace("cudamoe::kernels::", "", StringComparison.Ordinal);
        if (name.StartsWith("void ", StringComparison.Ordinal))
            name = name["void ".Length..];
        name = Clone().Replace(name, "");
        name = Literal().Replace(name, "$1");
        return name.Replace(" const&", "&", StringComparison.Ordinal);
    }

    /// <summary>The name without its parameters.</summary>
    public static string WithoutParameters(string name)
    {
        int depth = 0;
        for (int i = 0; i < name.Length; i++)
        {
            if (name[i] is '<')
                depth++;
            else if (name[i] is '>')
                depth--;
            else if (name[i] is '(' && depth == 0)
                return name[..i];
        }
        return name;
    }

    // "(int)4" and "4ul" are 4.
    [GeneratedRegex(@"(?:\((?:unsigned )?(?:int|long|bool)\))?\b(\d+)(?:u|l|ul)?\b")]
    private static partial Regex Literal();

    [GeneratedRegex(@" \[clone .*\]$")]
    private static partial Regex Clone();
}
