using System.Text.Json;

namespace CudaMoE.Training;

/// <summary>
/// The append-only log of a run: one <see cref="RunEvent"/> a line in <c>metrics.jsonl</c>, UTF-8, handed to the operating system event by
/// event, so that a killed run loses at most the line that was being written. Safe to use from several threads.
/// </summary>
public sealed class RunLog : IDisposable
{
    private readonly FileStream _stream;
    private readonly TimeProvider _clock;
    private readonly Lock _lock = new();

    private RunLog(FileStream stream, TimeProvider? clock)
    {
        _stream = stream;
        _clock = clock ?? TimeProvider.System;
        Path = stream.Name;
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>Starts a log in a file that must not exist yet.</summary>
    /// <exception cref="RunLogException">The file exists or cannot be created.</exception>
    public static RunLog Create(string path, TimeProvider? clock = null)
    {
        try
        {
            return new(new FileStream(path, FileMode.CreateNew, FileAccess.Write, FileShare.Read, bufferSize: 0), clock);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new RunLogException($"cannot create the run log {path}: {e.Message}", e);
        }
    }

    /// <summary>
    /// Opens the log of a run that goes on from a checkpoint of <paramref name="step"/> steps. The log is cut before the first event
    /// of a later step, the first <see cref="RunEndedEvent"/>, or a torn last line, whichever comes first.
    /// </summary>
    /// <exception cref="RunLogException">The file is missing, cannot be opened, or holds a broken line that is not the last.</exception>
    public static RunLog Resume(string path, long step, TimeProvider? clock = null)
    {
        long keep = 0;
        foreach (RunLogLine line in RunLogReader.ReadLines(path))
        {
            if (line.Event is RunEndedEvent || line.Event?.Step > step)
                break;
            keep = line.End;
        }

        FileStream? stream = null;
        try
        {
            stream = new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.Read, bufferSize: 0);
            stream.SetLength(keep);
            stream.Seek(0, SeekOrigin.End);
            return new(stream, clock);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            stream?.Dispose();
            throw new RunLogException($"cannot open the run log {path}: {e.Message}", e);
        }
    }

    /// <summary>Adds an event as one line and returns it as written, with its time.</summary>
    public RunEvent Append(RunEvent runEvent)
    {
        ArgumentNullException.ThrowIfNull(runEvent);
        RunEvent stamped = runEvent.Time is null ? runEvent with { Time = _clock.GetUtcNow() } : runEvent;
        byte[] json = JsonSerializer.SerializeToUtf8Bytes(stamped, RunLogJson.Default.RunEvent);
        Array.Resize(ref json, json.Length + 1);
        json[^1] = (byte)'\n';
        lock (_lock)
            _stream.Write(json);
        return stamped;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
            _stream.Dispose();
    }
}
