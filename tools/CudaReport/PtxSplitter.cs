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
    /// <summary>What was written: the number of files, and the kernels among them that no test launches.</summary>
    internal sealed record Result(int Files, IReadOnlyList<string> WithoutLaunch);

    /// <summary>Writes a file for each kernel of the modules in a folder.</summary>
    public static Result Split(string input, string output, LaunchLog launches)
    {
        Directory.CreateDirectory(output);
        foreach (string old in Directory.GetFiles(output, "*.ptx"))
            File.Delete(old);
        int files = 0;
        var withoutLaunch = new List<string>();
        foreach (string path in Directory.GetFiles(input, "*.ptx").Order(StringComparer.Ordinal))
        {
            PtxModule module = PtxModule.Parse(File.ReadAllText(path));
            Dictionary<string, string> names = KernelNames.Demangle(module.Entries.Select(e => e.Name).ToList());
            foreach (PtxModule.Part entry in module.Entries)
            {
                string kernel = names[entry.Name];
                string name = Path.GetFileNameWithoutExtension(path) + "." + FileName(KernelNames.WithoutParameters(kernel)) + ".ptx";
                File.WriteAllText(Path.Combine(output, name), Describe(kernel, launches) + module.WithOnly(entry));
                files++;
                if (Smallest(kernel, launches) is null)
                    withoutLaunch.Add(KernelNames.WithoutParameters(kernel));
            }
        }
        return new Result(files, withoutLaunch);
    }

    internal static string Describe(string kernel, LaunchLog launches)
    {
        var text = new StringBuilder($"// {kernel}\n");
        LaunchLog.Launch? small = Smallest(kernel, launches);
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
    private static LaunchLog.Launch? Smallest(string kernel, LaunchLog launches) =>
        launches.Of(kernel).OrderBy(l => l.Architecture != 80).ThenBy(l => l.Blocks).FirstOrDefault();

    // Zeros at the end go without saying, and are most of a table of tensors.
    private static string Shorten(string words) => TrailingZeros().Replace(words, match => match.Length > 16 ? " and zeros" : match.Value);

    private static string FileName(string kernel) => Unwanted().Replace(kernel, "_").Trim('_');

    [GeneratedRegex(@"( 0)+$")]
    private static partial Regex TrailingZeros();

    [GeneratedRegex(@"[^A-Za-z0-9]+")]
    private static partial Regex Unwanted();
}
