namespace CudaMoE.CudaReport;

/// <summary>Puts together what cuobjdump says of a library and what was launched.</summary>
internal static class FigureCollector
{
    public static List<KernelFigures> Collect(string cuobjdump, string library, LaunchLog launches)
    {
        var usages = new List<ResourceReader.Usage>();
        Tool.Read(cuobjdump, ["-res-usage", library], text => usages.AddRange(ResourceReader.Read(text)));
        // Disassembling takes most of the time: one process for each architecture.
        var code = new Dictionary<(string Architecture, string Name), Instructions>();
        Parallel.ForEach(usages.Select(u => u.Architecture).Distinct(), architecture =>
            Tool.Read(cuobjdump, ["-sass", "-arch", architecture, library], text =>
            {
                foreach (SassReader.Function function in SassReader.Read(text))
                {
                    lock (code)
                        code[(function.Architecture, function.Name)] = function.Code;
                }
            }));
        Dictionary<string, string> names = KernelNames.Demangle(usages.Select(u => u.Name).ToList());
        return Combine(usages, names, (architecture, name) => code[(architecture, name)], launches);
    }

    internal static List<KernelFigures> Combine(
        IEnumerable<ResourceReader.Usage> usages, IReadOnlyDictionary<string, string> names, Func<string, string, Instructions> code, LaunchLog launches)
    {
        var figures = new List<KernelFigures>();
        foreach (ResourceReader.Usage usage in usages)
        {
            string kernel = names[usage.Name];
            Instructions instructions = code(usage.Architecture, usage.Name);
            if (IsEmptyHere(usage.Architecture, instructions, launches.Of(kernel)))
                continue;
            int threads = 0, dynamicShared = 0, warps = 0;
            foreach (LaunchLog.Launch launch in Of(usage.Architecture, launches.Of(kernel)))
            {
                int resident = Occupancy.ResidentWarps(usage.Architecture, usage.Registers, usage.Shared + launch.DynamicSharedBytes, launch.Threads);
                if (threads != 0 && (resident > warps || (resident == warps && launch.DynamicSharedBytes <= dynamicShared)))
                    continue;
                (threads, dynamicShared, warps) = (launch.Threads, launch.DynamicSharedBytes, resident);
            }
            figures.Add(new KernelFigures
            {
                Kernel = kernel,
                Source = SourceOf(usage.Source),
                Architecture = usage.Architecture,
                Registers = usage.Registers,
                StackBytes = usage.Stack,
                LocalBytes = usage.Local,
                StaticSharedBytes = usage.Shared,
                DynamicSharedBytes = dynamicShared,
                Threads = threads,
                ResidentWarps = warps,
                Code = instructions,
            });
        }
        return [.. figures
            .OrderBy(f => f.Source, StringComparer.Ordinal)
            .ThenBy(f => f.Kernel, StringComparer.Ordinal)
            .ThenBy(f => f.Architecture, StringComparer.Ordinal)];
    }

    // A kernel of sm_90a's own instructions has no body on other architectures, and is never launched there.
    private static bool IsEmptyHere(string architecture, Instructions code, IReadOnlyList<LaunchLog.Launch> launches) =>
        architecture != "sm_90a" && launches.Count > 0 && launches.All(launch => launch.Architecture == 90) && code == new Instructions();

    // How much shared memory a kernel asks for may follow the device's limits, so an architecture's own launches count where there are any. 8.9 has
    // the limits of 8.6, which the tests run.
    private static IReadOnlyList<LaunchLog.Launch> Of(string architecture, IReadOnlyList<LaunchLog.Launch> launches)
    {
        int number = architecture switch { "sm_80" => 80, "sm_86" or "sm_89" => 86, "sm_90" or "sm_90a" => 90, _ => 0 };
        List<LaunchLog.Launch> own = [.. launches.Where(launch => launch.Architecture == number)];
        return own.Count > 0 ? own : launches;
    }

    // "gemm/pack.cu" of "/x/kernels/gemm/pack.cu".
    private static string SourceOf(string path)
    {
        int at = path.LastIndexOf("/kernels/", StringComparison.Ordinal);
        return at < 0 ? path : path[(at + "/kernels/".Length)..];
    }
}
