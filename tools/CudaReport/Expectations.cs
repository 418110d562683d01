using System.Globalization;
using System.Text;

namespace CudaMoE.CudaReport;

/// <summary>The figures that were accepted last: one line for each kernel and architecture in a file that is checked in.</summary>
internal sealed class Expectations
{
    private static readonly (string Name, bool MoreIsBetter, Func<KernelFigures, int> Value)[] Columns =
    [
        ("registers", false, f => f.Registers),
        ("shared bytes", false, f => f.SharedBytes),
        ("threads", true, f => f.Threads),
        ("resident warps", true, f => f.ResidentWarps),
        ("16-byte loads", true, f => f.Code.WideLoads),
        ("narrower loads", false, f => f.Code.NarrowLoads),
        ("16-byte stores", true, f => f.Code.WideStores),
        ("narrower stores", false, f => f.Code.NarrowStores),
        ("bulk copies", true, f => f.Code.BulkCopies),
        ("tensor-core instructions in loops", true, f => f.Code.TensorCoreInLoops),
    ];

    private readonly Dictionary<(string Source, string Kernel, string Architecture), int[]> rows = [];

    /// <summary>"12.4": figures of another compiler are not compared.</summary>
    public string Toolkit { get; private init; } = "";

    public static Expectations Parse(string text)
    {
        string[] lines = text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        var expectations = new Expectations { Toolkit = lines.Length > 0 ? lines[0].TrimStart('#', ' ').Split(' ').Last() : "" };
        foreach (string line in lines.Where(line => !line.StartsWith('#')).Skip(1))
        {
            string[] parts = line.Split('\t');
            if (parts.Length != 3 + Columns.Length)
                throw new InvalidDataException($"a line of the expected figures has {parts.Length} columns, not {3 + Columns.Length}: {line}");
            expectations.rows.Add((parts[0], parts[1], parts[2]), [.. parts.Skip(3).Select(p => int.Parse(p, CultureInfo.InvariantCulture))]);
        }
        return expectations;
    }

    public static string Write(IEnumerable<KernelFigures> figures, string toolkit)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"# What nvcc makes of the kernels; written by `./build.sh cuda-report --update` with CUDA {toolkit}\n");
        text.Append("source\tkernel\tarchitecture\t").AppendJoin('\t', Columns.Select(c => c.Name)).Append('\n');
        foreach (KernelFigures f in figures)
            text.Append(CultureInfo.InvariantCulture, $"{f.Source}\t{f.Kernel}\t{f.Architecture}\t").AppendJoin('\t', Columns.Select(c => c.Value(f))).Append('\n');
        return text.ToString();
    }

    /// <summary>What got worse, what is listed no more and what is not listed yet; and how many figures got better.</summary>
    public (List<string> Failures, int Better) Compare(IReadOnlyCollection<KernelFigures> figures)
    {
        var failures = new List<string>();
        var missing = new HashSet<(string, string, string)>(rows.Keys);
        int better = 0;
        foreach (KernelFigures f in figures)
        {
            string name = $"{f.Source}: {f.Kernel} for {f.Architecture}";
            if (!rows.TryGetValue((f.Source, f.Kernel, f.Architecture), out int[]? expected))
            {
                failures.Add($"{name} is not listed in the expected figures");
                continue;
            }
            missing.Remove((f.Source, f.Kernel, f.Architecture));
            for (int i = 0; i < Columns.Length; i++)
            {
                int difference = Columns[i].Value(f) - expected[i];
                if (difference != 0 && difference > 0 == Columns[i].MoreIsBetter)
                    better++;
                else if (difference != 0)
                    failures.Add($"{name}: {Columns[i].Name} {Columns[i].Value(f)}, expected {expected[i]}");
            }
        }
        failures.AddRange(missing.Select(m => $"{m.Item1}: {m.Item2} for {m.Item3} is listed in the expected figures and not in the library"));
        return (failures, better);
    }
}
