using System.Text.RegularExpressions;
using CudaMoE.CudaReport;

const string usage = """
    CudaReport check --cuobjdump FILE --library libcudamoe_cuda.so --launches FILE --executor libcudamoe_simt.so --expected FILE --report FILE
                     [--costs FILE --expected-costs FILE --batch N] [--update]
      Compares what nvcc made of each kernel with what was expected of it, and what it must keep. --update writes the expected figures and the report.
    CudaReport ptx   --input FOLDER --output FOLDER --launches FILE --executor libcudamoe_simt.so
      Takes the modules that nvcc -ptx wrote apart: one file for each kernel, with a small launch of it and classic instructions only.
    Exit codes: 0 done, 1 a kernel is worse, not listed or broken, or has another instruction, 2 usage.
    """;

if (args.Length == 0 || args[0] is not ("check" or "ptx"))
    return Usage();
var options = new Dictionary<string, string>();
for (int i = 1; i < args.Length; i++)
{
    if (args[i] == "--update")
        options["update"] = "";
    else if (args[i].StartsWith("--", StringComparison.Ordinal) && i + 1 < args.Length)
        options[args[i++][2..]] = args[i];
    else
        return Usage();
}
string[] required = args[0] == "check" ? ["cuobjdump", "library", "launches", "executor", "expected", "report"] : ["input", "output", "launches", "executor"];
if (required.FirstOrDefault(name => !options.ContainsKey(name)) is { } absent)
{
    Console.Error.WriteLine($"error: --{absent} is missing");
    return Usage();
}

LaunchLog launches = LaunchLog.Read(options["launches"], options["executor"]);
if (args[0] == "ptx")
{
    PtxSplitter.Result result = PtxSplitter.Split(options["input"], options["output"], launches);
    foreach (string failure in result.Failures)
        Console.Error.WriteLine($"error: {failure}");
    Console.WriteLine($"{result.Files} files in {options["output"]}, {result.Elsewhere} kernels of other architectures only, {result.Failures.Count} failures");
    return result.Failures.Count == 0 ? 0 : 1;
}
return Check();

int Check()
{
    List<KernelFigures> figures = FigureCollector.Collect(options["cuobjdump"], options["library"], launches);
    if (figures.Count == 0)
        throw new InvalidDataException($"{options["library"]} has no kernels");
    List<Costs.Cost> costs = options.TryGetValue("costs", out string? file)
        ? Costs.At(long.Parse(options["batch"], System.Globalization.CultureInfo.InvariantCulture), Costs.Parse(File.ReadAllText(file)))
        : [];
    string toolkit = Regex.Match(Tool.Run(options["cuobjdump"], ["--version"]), @"release (\d+\.\d+)").Groups[1].Value;

    List<string> failures = [.. figures.SelectMany(Gates.Broken)];
    string expectedCosts = options.GetValueOrDefault("expected-costs", "");
    var accepted = File.Exists(expectedCosts) ? Costs.ParseExpected(File.ReadAllText(expectedCosts)) : [];
    if (costs.Count > 0 && options.ContainsKey("update"))
    {
        File.WriteAllText(expectedCosts, Costs.WriteExpected(costs, accepted));
        accepted = Costs.ParseExpected(File.ReadAllText(expectedCosts));
    }
    if (costs.Count > 0)
        failures.AddRange(Costs.Compare(costs, accepted));
    int compared = 0, better = 0;
    if (options.ContainsKey("update"))
    {
        File.WriteAllText(options["expected"], Expectations.Write(figures, toolkit));
        File.WriteAllText(options["report"], ReportWriter.Write(figures, costs, accepted.ToDictionary(a => a.Key, a => a.Value.Reason), toolkit));
    }
    else
    {
        Expectations expected = Expectations.Parse(File.ReadAllText(options["expected"]));
        if (expected.Toolkit == toolkit)
        {
            (List<string> worse, better) = expected.Compare(figures);
            failures.AddRange(worse);
            compared = figures.Count;
        }
        else
        {
            Console.WriteLine($"the expected figures are of CUDA {expected.Toolkit}, this is {toolkit}: they are not compared");
        }
    }
    foreach (string failure in failures.Order(StringComparer.Ordinal))
        Console.Error.WriteLine($"error: {failure}");
    if (better > 0)
        Console.WriteLine($"{better} figures are better than expected; --update writes them down");
    foreach (Costs.Cost cost in costs)
        Console.WriteLine($"{cost.Operation,-44} {cost.MemoryBytes * 1e-6,9:F1} MB, {cost.Ratio,5:F2} x floor");
    Console.WriteLine($"{figures.Count} kernels and architectures, {compared} compared, {failures.Count} failures");
    return failures.Count == 0 ? 0 : 1;
}

int Usage()
{
    Console.Error.WriteLine(usage);
    return 2;
}
