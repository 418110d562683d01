using System.Globalization;

namespace CudaMoE.CudaReport;

/// <summary>
/// The launches that the tests made on the executor (native/simt/launch_log.h): from the code itself, which kernels are run, with which
/// blocks and how much dynamic shared memory.
/// </summary>
internal sealed class LaunchLog
{
    /// <summary>Launches of a kernel with one block and one size of dynamic shared memory. Sizes of grid and block as "x,y,z".</summary>
    internal sealed record Launch(
        string Operation, int Architecture, string Block, int DynamicSharedBytes, long Count, string Grid, string Parameters, string Buffers)
    {
        public int Threads => Extent(Block);
        public int Blocks => Extent(Grid);

        private static int Extent(string size) => size.Split(',').Aggregate(1, (product, part) => product * int.Parse(part, CultureInfo.InvariantCulture));
    }

    private readonly Dictionary<string, List<Launch>> launches = [];

    public IReadOnlyList<Launch> Of(string kernel) => launches.TryGetValue(kernel, out List<Launch>? all) ? all : [];

    public static LaunchLog Read(string path, string library)
    {
        var names = new SortedList<long, string>();
        foreach (string line in Tool.Run("nm", ["--defined-only", library]).Split('\n'))
        {
            string[] parts = line.Split(' ', 3);
            if (parts.Length == 3 && parts[1] is "t" or "T")
                names[Hexadecimal(parts[0])] = parts[2];
        }
        var rows = File.ReadAllLines(path).Select(line => line.Split('\t')).ToList();
        string Mangled(string offset) => names.TryGetValue(Hexadecimal(offset), out string? name)
            ? name
            : throw new InvalidDataException($"{path}: {library} has no function at {offset}; it was built anew since the launches were logged");
        Dictionary<string, string> kernels = KernelNames.Demangle(rows.Select(row => Mangled(row[0])).ToList());
        var log = new LaunchLog();
        foreach (string[] row in rows)
        {
            int Number(int column) => int.Parse(row[column], CultureInfo.InvariantCulture);
            log.Add(kernels[Mangled(row[0])], new Launch(row[1], Number(2), row[3], Number(4), Number(5), row[6], row[7], row[8]));
        }
        return log;
    }

    internal void Add(string kernel, Launch launch)
    {
        if (!launches.TryGetValue(kernel, out List<Launch>? all))
            launches[kernel] = all = [];
        all.Add(launch);
    }

    private static long Hexadecimal(string digits) => long.Parse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
}
