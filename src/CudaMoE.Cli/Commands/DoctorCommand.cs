using System.CommandLine;
using System.Runtime.InteropServices;
using CudaMoE.Cli.Rendering;
using CudaMoE.Tensors;

namespace CudaMoE.Cli.Commands;

/// <summary>Looks at everything that the engine needs from the machine, and says what is wrong.</summary>
internal sealed class DoctorCommand : CliCommand
{
    private static readonly string[] Variables = ["CUDAMOE_NATIVE_PATH", "CUDAMOE_CPU_LEVEL", "CUDAMOE_DEVICE", "DOTNET_PROCESSOR_COUNT"];

    public DoctorCommand()
        : base("doctor", "Check what the engine needs from this machine: native library, devices, memory, folders. Exit code 3 if something is missing.", "cudamoe doctor")
    {
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        DoctorCheck[] checks = [.. Checks()];
        bool healthy = !Array.Exists(checks, c => c.State == "bad");
        if (context.Format == OutputFormat.Json)
        {
            context.WriteJson(new() { Healthy = healthy, Checks = checks }, CliJson.Default.DoctorResult);
        }
        else
        {
            Spectre.Console.Table table = Texts.NewTable("", "Check", "Finding");
            foreach (DoctorCheck check in checks)
                table.AddTexts(check.State, check.Name, check.Finding);
            context.WriteTable(table);
            context.WriteRaw(healthy ? "Everything that training on this machine needs is there.\n" : "Something is missing; see the lines marked bad.\n");
        }

        return healthy ? ExitCodes.Ok : ExitCodes.Environment;
    }

    private static IEnumerable<DoctorCheck> Checks()
    {
        yield return Ok("cudamoe", Texts.Version);
        yield return Ok("system", $"{RuntimeInformation.OSDescription}, {RuntimeInformation.RuntimeIdentifier}, {RuntimeInformation.FrameworkDescription}");
        yield return Ok("processors", $"{Environment.ProcessorCount} for this process");
        long memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        yield return new() { Name = "memory", State = memory < 1L << 30 ? "warning" : "ok", Finding = $"{Texts.Bytes(memory)} for this process" };
        foreach (DoctorCheck check in NativeChecks())
            yield return check;
        yield return Folder("current folder", Environment.CurrentDirectory);
        yield return Folder("temporary folder", Path.GetTempPath());
        foreach (string variable in Variables)
        {
            if (Environment.GetEnvironmentVariable(variable) is { Length: > 0 } value)
                yield return Ok(variable, value);
        }
    }

    private static IEnumerable<DoctorCheck> NativeChecks()
    {
        BackendReport report = BackendReport.Query();
        string attempts = string.Join('\n', report.Attempts);
        if (report.LibraryPath is null)
        {
            yield return new() { Name = "native library", State = "bad", Finding = $"not loaded; ./build.sh build (build.ps1 on Windows) makes it\n{attempts}" };
            yield break;
        }

        yield return Ok("native library", $"{report.Version}\n{attempts}");
        foreach (BackendStatus backend in report.Backends)
            yield return Backend(backend);
    }

    // The cpu backend is the default and must work; the others are for machines that have them.
    private static DoctorCheck Backend(BackendStatus backend)
    {
        string name = $"backend {backend.Name}";
        string failure = backend.Name == "cpu" ? "bad" : "warning";
        if (!backend.Usable)
            return new() { Name = name, State = backend.Name == "cpu" ? "bad" : "ok", Finding = $"not usable here: {backend.Reason}" };
        try
        {
            using Device device = Device.Open(backend.Name);
            using DeviceBuffer buffer = device.Allocate(1 << 20);
            return Ok(name, $"{device.Info.Name}, {device.Info.Level}, {device.Info.Threads} threads; memory can be had");
        }
        catch (NativeException e)
        {
            return new() { Name = name, State = failure, Finding = e.Message };
        }
    }

    private static DoctorCheck Folder(string name, string path)
    {
        string probe = Path.Combine(path, $".cudamoe-doctor-{Environment.ProcessId}");
        try
        {
            File.WriteAllText(probe, "");
            File.Delete(probe);
            return Ok(name, $"{path} can be written, {Texts.Bytes(new DriveInfo(Path.GetFullPath(path)).AvailableFreeSpace)} free");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return new() { Name = name, State = "warning", Finding = $"{path} cannot be written: {e.Message}" };
        }
    }

    private static DoctorCheck Ok(string name, string finding) => new() { Name = name, State = "ok", Finding = finding };
}
