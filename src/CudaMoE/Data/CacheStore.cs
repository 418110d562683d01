using CudaMoE.Checkpoints;

namespace CudaMoE.Data;

/// <summary>
/// A cache folder among others: <c>root/KEY</c>. It is built under a temporary name and renamed when whole, by the process that holds
/// <c>root/KEY.lock</c>; the system frees that lock when its holder dies.
/// </summary>
internal sealed class CacheStore(string root, string key)
{
    private const int LockPollMilliseconds = 50;

    // 64 bits of the key name the folder; the manifest holds all of it.
    private readonly string _name = key[..16];

    public string Folder => Path.Combine(root, _name);

    /// <param name="build">Writes all files into the folder that it is given.</param>
    /// <param name="cancellation">Stops waiting; the build itself looks after it, too.</param>
    /// <param name="wasBuilt">Whether it was called.</param>
    /// <param name="notice">Why an existing cache was not used; null when there was none.</param>
    public CacheManifest OpenOrBuild(Action<string, string> build, CancellationToken cancellation, out bool wasBuilt, out string? notice)
    {
        wasBuilt = false;
        notice = null;
        if (Directory.Exists(Folder) && CacheManifest.TryRead(Folder, key, out _) is { } existing)
            return existing;
        try
        {
            Directory.CreateDirectory(root);
            using FileStream held = Lock(cancellation);
            RemoveAbandoned();
            if (Directory.Exists(Folder))
            {
                // Another process may have finished it while this one waited.
                if (CacheManifest.TryRead(Folder, key, out string reason) is { } finished)
                    return finished;
                notice = $"the cache {Folder} is rebuilt: {reason}";
                Directory.Delete(Folder, recursive: true);
            }

            string temporary = $"{Folder}.{Environment.ProcessId}.tmp";
            Directory.CreateDirectory(temporary);
            try
            {
                build(temporary, key);
                FileNames.MoveFolder(temporary, Folder);
            }
            catch
            {
                Directory.Delete(temporary, recursive: true);
                throw;
            }

            wasBuilt = true;
            return CacheManifest.TryRead(Folder, key, out string fault)
                ?? throw new DataException($"the cache {Folder} was damaged while it was written: {fault}");
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new DataException($"the cache cannot be written in {root}: {error.Message}; data.cache can name another folder", error);
        }
    }

    private FileStream Lock(CancellationToken cancellation)
    {
        string path = Path.Combine(root, $"{_name}.lock");
        while (true)
        {
            cancellation.ThrowIfCancellationRequested();
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException) when (File.Exists(path))
            {
                cancellation.WaitHandle.WaitOne(LockPollMilliseconds);
            }
        }
    }

    // Whoever holds the lock is the only builder: temporary folders of this key are those of builders that were killed.
    private void RemoveAbandoned()
    {
        foreach (string folder in Directory.EnumerateDirectories(root))
        {
            string name = Path.GetFileName(folder);
            if (name.StartsWith($"{_name}.", StringComparison.Ordinal) && name.EndsWith(".tmp", StringComparison.Ordinal))
                Directory.Delete(folder, recursive: true);
        }
    }
}
