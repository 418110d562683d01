using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace CudaMoE.CudaReport;

/// <summary>
/// Takes modules of PTX apart: each kernel becomes a file of its own with the declarations that it names, and with a launch of it, the smallest
/// that the tests make, so that a reader or an emulator knows grid, block, shared memory and parameters.
/// </summary>
internal static partial class PtxSplitter
{
    /// <summary>The number of files that were written, of kernels that other architectures only have, and what is wrong with the files.</summary>
    internal sealed record Result(int Files, int Elsewhere, IReadOnlyList<string> Failures);

    /// <summary>Writes a file for each kernel of the modules in a folder that does something.</summary>
    public static Result Split(string input, string output, LaunchLog launches)
    {
        Directory.CreateDirectory(output);
        foreach (string old in Directory.GetFiles(output, "*.ptx"))
            File.Delete(old);
        int files = 0, elsewhere = 0;
        var failures = new List<string>();
        foreach (string path in Directory.GetFiles(input, "*.ptx").Order(StringComparer.Ordinal))
        {
            PtxModule module = PtxModule.Parse(File.ReadAllText(path));
            Dictionary<string, string> names = KernelNames.Demangle(module.Entries.Select(e => e.Name).ToList());
            foreach (PtxModule.Part entry in module.Entries)
            {
                string kernel = names[entry.Name], shortName = KernelNames.WithoutParameters(kernel);
                LaunchLog.Launch? small = Smallest(kernel, launches);
                if (small is null)
                    failures.Add($"no test launches {shortName}");
                bool empty = ClassicInstructions.Statements(entry.Text).All(s => s.Text == "ret");
                if (empty && small?.Architecture > 80)
                {
                    elsewhere++;
                    continue;
                }
                string name = $"{Path.GetFileNameWithoutExtension(path)}.{FileName(shortName)}.ptx";
                string text = Describe(kernel, small) + module.WithOnly(entry);
                File.WriteAllText(Path.Combine(output, name), text);
                files++;
                if (empty)
                    failures.Add($"{name} does nothing");
                failures.AddRange(ClassicInstructions.Others(text).Select(o => $"{name}:{o.Line}: {o.Name} is not a classic instruction ({o.Count} times)"));
            }
        }
        return new Result(files, elsewhere, failures);
    }

    internal static string Describe(string kernel, LaunchLog.Launch? small)
    {
        var text = new StringBuilder($"// {kernel}\n");
        if (small is null)
            return text.ToString();
        text.Append(CultureInfo.InvariantCulture, $"// A launch: grid ({small.Grid}), block ({small.Block}), {small.DynamicSharedBytes} bytes of dynamic shared memory.\n");
        string[] sizes = small.Buffers.Split(',', StringSplitOptions.RemoveEmptyEntries);
        for (int i = 0; i < sizes.Length; i++)
            text.Append(CultureInfo.InvariantCulture, $"// buffer{i}: {sizes[i]} bytes of global memory\n");
        string[] parameters = small.Parameters.Split(';');
        for (int i = 0; i < parameters.Length; i++)
            text.Append(CultureInfo.InvariantCulture, $"// parameter {i}, words: {Shorten(parameters[i])}\n");
        return text.ToString();
    }

    // Some kernels are the choice of other architectures only, where they run as they would on sm_80.
    internal static LaunchLog.Launch? Smallest(string kernel, LaunchLog launches) =>
        launches.Of(kernel).OrderBy(l => l.Architecture != 80).ThenBy(l => l.Blocks).FirstOrDefault();

    // Zeros at the end go without saying, and are most of a table of tensors.
    private static string Shorten(string words) => TrailingZeros().Replace(words, match => match.Length > 16 ? " and zeros" : match.Value);

    private static string FileName(string kernel) => Unwanted().Replace(kernel, "_").Trim('_');

    [GeneratedRegex(@"( 0)+$")]
    private static partial Regex TrailingZeros();

    [GeneratedRegex(@"[^A-Za-z0-9]+")]
    private static partial Regex Unwanted();
}
