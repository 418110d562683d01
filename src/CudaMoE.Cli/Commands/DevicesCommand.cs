using System.CommandLine;
using CudaMoE.Cli.Rendering;
using CudaMoE.Tensors;
using Spectre.Console;

namespace CudaMoE.Cli.Commands;

/// <summary>Lists backends and what opens on them.</summary>
internal sealed class DevicesCommand : CliCommand
{
    public DevicesCommand()
        : base("devices", "List the backends, whether each can be used here and why not, and the default device of each.", "cudamoe devices", "cudamoe devices --output json")
    {
    }

    public override int Run(ParseResult arguments, CliContext context, CancellationToken cancellation)
    {
        BackendReport report = BackendReport.Query();
        if (report.Failure is { } failure)
            throw new NativeLibraryException(failure);
        DevicesResult result = new() { Backends = [.. report.Backends.Select(Open)] };
        if (context.Format == OutputFormat.Json)
        {
            context.WriteJson(result, CliJson.Default.DevicesResult);
            return ExitCodes.Ok;
        }

        Table table = Texts.NewTable("Backend", "Device", "Level", "Threads", "Memory", "bf16");
        foreach (BackendResult backend in result.Backends)
        {
            if (backend.Usable)
                table.AddTexts(backend.Backend, backend.Device!, backend.Level!, $"{backend.Threads}", Texts.Bytes(backend.MemoryBytes!.Value), backend.Bf16 == true ? "native" : "emulated");
            else
                table.AddTexts(backend.Backend, $"not usable: {backend.Reason}");
        }

        context.WriteTable(table);
        return ExitCodes.Ok;
    }

    private static BackendResult Open(BackendStatus status)
    {
        if (!status.Usable)
            return new() { Backend = status.Name, Usable = false, Reason = status.Reason };
        try
        {
            using Device device = Device.Open(status.Name);
            DeviceProperties info = device.Info;
            return new()
            {
                Backend = status.Name,
                Usable = true,
                Device = info.Name,
                Level = info.Level,
                Threads = info.Threads,
                MemoryBytes = info.MemoryBytes,
                Bf16 = info.SupportsBf16,
            };
        }
        catch (NativeException e)
        {
            return new() { Backend = status.Name, Usable = false, Reason = e.Message };
        }
    }
}
