using System.Text.Json;

namespace CudaMoE.Training;

/// <summary>Reads run logs, also those of runs that were killed or are still going on.</summary>
public static class RunLogReader
{
    /// <summary>
    /// The events in order. A last line that was torn by a kill is skipped, and so are events of kinds that this version does not know.
    /// </summary>
    /// <exception cref="RunLogException">The file cannot be read, or a line that is not the last is broken.</exception>
    public static IReadOnlyList<RunEvent> Read(string path)
    {
        List<RunEvent> events = [];
        foreach (RunLogLine line in ReadLines(path))
        {
            if (line.Event is not null)
                events.Add(line.Event);
        }

        return events;
    }

    /// <summary>The whole lines with the offset of the byte behind each; a torn last line is not among them.</summary>
    internal static IEnumerable<RunLogLine> ReadLines(string path)
    {
        byte[] bytes = ReadAll(path);
        int start = 0;
        for (int number = 1; start < bytes.Length; number++)
        {
            int length = bytes.AsSpan(start).IndexOf((byte)'\n');
            if (length < 0)
                yield break;
            int end = start + length + 1;
            if (!TryParse(bytes.AsSpan(start, length), out RunEvent? runEvent, out string? error))
            {
                if (end == bytes.Length)
                    yield break;
                throw new RunLogException($"{path}, line {number}: {error}");
            }

            yield return new(runEvent, end);
            start = end;
        }
    }

    private static byte[] ReadAll(string path)
    {
        try
        {
            using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            using MemoryStream copy = new();
            stream.CopyTo(copy);
            return copy.ToArray();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new RunLogException($"cannot read the run log {path}: {e.Message}", e);
        }
    }

    private static bool TryParse(ReadOnlySpan<byte> line, out RunEvent? runEvent, out string? error)
    {
        runEvent = null;
        error = null;
        if (line.Trim((byte)' ').Trim((byte)'\r').IsEmpty)
            return true;
        try
        {
            runEvent = JsonSerializer.Deserialize(line, RunLogJson.Default.RunEvent);
            error = runEvent is null ? "is not an event" : null;
            return runEvent is not null;
        }
        catch (Exception e) when (e is JsonException or NotSupportedException)
        {
            error = e.Message;
            return IsOfUnknownKind(line);
        }
    }

    private static bool IsOfUnknownKind(ReadOnlySpan<byte> line)
    {
        try
        {
            Utf8JsonReader reader = new(line);
            using JsonDocument document = JsonDocument.ParseValue(ref reader);
            return document.RootElement.ValueKind == JsonValueKind.Object
                && document.RootElement.TryGetProperty("event", out JsonElement kind)
                && kind.ValueKind == JsonValueKind.String
                && !KnownKinds.Contains(kind.GetString()!);
        }
        catch (JsonException)
        {
            return false;
        }
    }

    private static readonly HashSet<string> KnownKinds =
    [
        RunStartedEvent.Kind,
        RunResumedEvent.Kind,
        StepEvent.Kind,
        EpochEvent.Kind,
        TestEvent.Kind,
        GatesEvent.Kind,
        CalibrationEvent.Kind,
        CheckpointEvent.Kind,
        RunEndedEvent.Kind,
    ];
}

/// <summary>A whole line of a run log.</summary>
/// <param name="Event">The event; null for an empty line or a kind that this version does not know.</param>
/// <param name="End">Offset of the byte behind the line's end.</param>
internal readonly record struct RunLogLine(RunEvent? Event, long End);
