using System.Text.RegularExpressions;

namespace CudaMoE.CudaReport;

/// <summary>
/// The instructions that the files of <c>build.sh cuda-ptx</c> may hold, so that whoever compares or interprets PTX knows what to expect: each is done
/// when the next one begins, and its result is exact, or one rounding of the exact one. Whatever is not listed is reported: copies and products that are
/// done later, barriers in memory, fences between proxies, approximations, results flushed to zero, floating-point atomics, local memory, calls of
/// anything but the one external function.
/// </summary>
internal static partial class ClassicInstructions
{
    /// <summary>An instruction, register or function that is not listed, the line where it occurs first, and how often it does.</summary>
    internal readonly record struct Other(int Line, string Name, int Count);

    private const string Whole = @"[su](8|16|32|64)";
    private const string Bits = @"b(8|16|32|64)";
    private const string Real = @"f(32|64)";
    private const string Any = $"({Whole}|{Bits}|{Real})";

    private static readonly string[] Families =
    [
        // registers and addresses
        $@"mov\.({Any}|pred)",
        @"cvta(\.to)?\.(global|shared|param)\.u64",
        // whole numbers and bits
        $@"(add|sub|min|max|div|rem|abs|neg)\.{Whole}",
        $@"(mul|mad)\.(lo|hi|wide)\.{Whole}",
        $@"(and|or|xor|not)\.({Bits}|pred)",
        $@"(shl|shr)\.({Bits}|{Whole})",
        $@"(popc|clz|brev|bfi|prmt)\.{Bits}",
        $@"(bfe|bfind)\.{Whole}",
        // floating-point numbers: one rounding to the nearest, subnormals kept
        $@"(add|sub|mul|div|fma|sqrt|rcp)\.rn\.{Real}",
        $@"(neg|abs|min|max)\.{Real}",
        // comparisons and conversions
        $@"setp\.(eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan)(\.(and|or|xor))?\.{Any}",
        $@"selp\.{Any}",
        $@"cvt(\.(rn|rz|rm|rp|rni|rzi|rmi|rpi))?\.({Whole}|{Real})\.({Whole}|{Real})",
        @"cvt\.rn\.bf16x2\.f32|cvt\.rna\.tf32\.f32",
        // memory
        $@"ld(\.(param|shared|global|global\.nc))?(\.v[24])?\.{Any}",
        $@"st(\.(param|shared|global|global\.cs))?(\.v[24])?\.{Any}",
        @"(atom|red)\.(global|shared)\.((add|min|max)\.[su]|(and|or|xor|exch|cas)\.b)(32|64)",
        // control
        @"bra(\.uni)?|call(\.uni)?|ret",
        // a block's and a warp's threads together
        @"bar\.sync|bar\.red\.((and|or)\.pred|popc\.u32)|bar\.warp\.sync|membar\.(cta|gl|sys)",
        @"shfl\.sync\.(up|down|bfly|idx)\.b32|vote\.sync\.((all|any)\.pred|ballot\.b32)|match\.any\.sync\.b(32|64)",
        @"redux\.sync\.((add|min|max)\.[su]32|(and|or|xor)\.b32)",
        // tiles in shared memory and their products
        @"ldmatrix\.sync\.aligned\.m8n8\.x[124](\.trans)?\.shared\.b16",
        @"mma\.sync\.aligned\.(m16n8k16\.row\.col\.f32\.bf16\.bf16\.f32|m16n8k8\.row\.col\.f32\.tf32\.tf32\.f32)",
    ];

    private static readonly char[] Digits = [.. "0123456789"];

    private static readonly Regex Known = new($"^({string.Join('|', Families)})$", RegexOptions.ExplicitCapture);

    /// <summary>The one function that kernels call (kernels/common/math.cuh).</summary>
    internal const string Function = "cudamoe_transcendental";

    /// <summary>What of a module is not listed, by the lines where each occurs first.</summary>
    public static IReadOnlyList<Other> Others(string module)
    {
        var others = new Dictionary<string, Other>();
        HashSet<string> declared = [.. Declaration().Matches(module).SelectMany(m => m.Groups["name"].Captures).Select(c => c.Value)];
        foreach ((int line, string statement) in Statements(module))
        {
            foreach (string name in Unknown(statement, declared))
                others[name] = others.TryGetValue(name, out Other before) ? before with { Count = before.Count + 1 } : new Other(line, name, 1);
        }
        return [.. others.Values.OrderBy(o => o.Line)];
    }

    private static IEnumerable<string> Unknown(string statement, HashSet<string> declared)
    {
        string operation = Operation().Match(statement).Groups["operation"].Value;
        if (!Known.IsMatch(operation))
            yield return operation.Length > 0 ? operation : statement;
        else if (operation.StartsWith("call", StringComparison.Ordinal) && Callee().Match(statement).Groups["name"].Value is var callee && callee != Function)
            yield return $"{operation} {callee}";
        // A register is declared by its name, or with others as "%r<9>"; the place of a thread in its block and grid is given.
        foreach (string register in Register().Matches(statement).Select(m => m.Value))
        {
            if (!declared.Contains(register) && !declared.Contains(register.TrimEnd(Digits)) && !Place().IsMatch(register))
                yield return register;
        }
    }

    /// <summary>The statements within the bodies of kernels and functions, without labels, guards and directives; the lines that they begin in.</summary>
    internal static IEnumerable<(int Line, string Text)> Statements(string module)
    {
        string code = Comment().Replace(module, m => new string('\n', m.Value.Count(c => c == '\n')));
        int line = 1, begins = 0, depth = 0, start = 0;
        for (int i = 0; i < code.Length; i++)
        {
            char c = code[i];
            if (depth == 0)
            {
                // Braces at the top level are of a body, or of a variable's values.
                if (c == '{')
                    depth = Header().IsMatch(code[start..i]) ? 1 : -1;
                if (c is '{' or '}' or ';')
                    (start, begins) = (i + 1, 0);
            }
            else if (depth < 0)
            {
                depth += c == '}' ? 1 : c == '{' ? -1 : 0;
                start = i + 1;
            }
            else if (c is ';' or '}' || (c == '{' && begins == 0) || (c == ':' && Label().IsMatch(code[start..(i + 1)])))
            {
                // Braces within a statement are of a vector of operands.
                if (c == '}' && begins != 0)
                {
                    int open = code[start..i].Count(o => o == '{') - code[start..i].Count(o => o == '}');
                    if (open > 0)
                        continue;
                }
                string text = Guard().Replace(code[start..i].Trim(), "");
                if (c != ':' && text.Length > 0 && text[0] != '.')
                    yield return (begins, text);
                depth += c == '{' ? 1 : c == '}' ? -1 : 0;
                (start, begins) = (i + 1, 0);
            }
            else if (begins == 0 && !char.IsWhiteSpace(c))
            {
                begins = line;
            }
            if (c == '\n')
                line++;
        }
    }

    [GeneratedRegex(@"//[^\n]*|/\*.*?\*/", RegexOptions.Singleline)]
    private static partial Regex Comment();

    [GeneratedRegex(@"\.(entry|func)\b")]
    private static partial Regex Header();

    [GeneratedRegex(@"^\s*[\w$%]+\s*:$")]
    private static partial Regex Label();

    [GeneratedRegex(@"^@!?[\w%$]+\s+")]
    private static partial Regex Guard();

    [GeneratedRegex(@"^(?<operation>[a-z][\w.:]*)")]
    private static partial Regex Operation();

    [GeneratedRegex(@"^call\S*\s+(\([^)]*\)\s*,\s*)?(?<name>[\w$%]+)")]
    private static partial Regex Callee();

    [GeneratedRegex(@"\.reg\s+\.\w+\s+((?<name>%[\w$]+)[^,;]*[,;]\s*)+")]
    private static partial Regex Declaration();

    [GeneratedRegex(@"%[\w$.]+")]
    private static partial Regex Register();

    [GeneratedRegex(@"^%n?(tid|ctaid)\.[xyz]$")]
    private static partial Regex Place();
}
