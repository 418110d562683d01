using System.Globalization;
using System.Text.RegularExpressions;

namespace CudaMoE.CudaReport;

/// <summary>Reads the text that <c>cuobjdump -res-usage</c> prints.</summary>
internal static partial class ResourceReader
{
    internal readonly record struct Usage(string Architecture, string Source, string Name, int Registers, int Stack, int Shared, int Local);

    public static IEnumerable<Usage> Read(TextReader text)
    {
        string architecture = "", source = "", name = "";
        while (text.ReadLine() is { } line)
        {
            string trimmed = line.Trim();
            if (trimmed.StartsWith("arch = ", StringComparison.Ordinal))
                architecture = trimmed["arch = ".Length..];
            else if (trimmed.StartsWith("identifier = ", StringComparison.Ordinal))
                source = trimmed["identifier = ".Length..];
            else if (trimmed.StartsWith("Function ", StringComparison.Ordinal) && trimmed.EndsWith(':'))
                name = trimmed["Function ".Length..^1];
            else if (name.Length > 0 && UsageLine().Match(trimmed) is { Success: true } match)
            {
                int Number(string group) => int.Parse(match.Groups[group].Value, CultureInfo.InvariantCulture);
                yield return new Usage(architecture, source, name, Number("registers"), Number("stack"), Number("shared"), Number("local"));
                name = "";
            }
        }
    }

    [GeneratedRegex(@"^REG:(?<registers>\d+) STACK:(?<stack>\d+) SHARED:(?<shared>\d+) LOCAL:(?<local>\d+)")]
    private static partial Regex UsageLine();
}
