using System.Text;
using System.Text.Json;

namespace CudaMoE.Data;

/// <summary>
/// The table of contents of a cache folder: what it was built from, the rows of each split, and length and checksums of each file. It is
/// written last; its first line is its own checksum.
/// </summary>
internal sealed record CacheManifest
{
    public const string FileName = "manifest";

    public const int CurrentVersion = 1;

    /// <summary>Bytes that one checksum covers.</summary>
    public const int ChecksumBytes = 1 << 20;

    // A start must not read 100 GB to be sure of them: beyond this many blocks an even sample of them is checked.
    private const int MostBlocksChecked = 4096;

    public required int Version { get; init; }

    /// <summary>Hash of the sources, the format, features, tasks and split.</summary>
    public required string Key { get; init; }

    public required IReadOnlyList<CacheSplit> Splits { get; init; }

    public required IReadOnlyList<CacheFile> Files { get; init; }

    public required IReadOnlyList<string> Notices { get; init; }

    public void Write(string folder)
    {
        byte[] json = JsonSerializer.SerializeToUtf8Bytes(this, EncodersJson.Default.CacheManifest);
        using FileStream file = new(Path.Combine(folder, FileName), FileMode.Create, FileAccess.Write);
        file.Write(Encoding.ASCII.GetBytes($"{XxHash64.Hash(json):x16}\n"));
        file.Write(json);
        file.Flush(flushToDisk: true);
    }

    /// <summary>Reads the manifest of a folder and checks the files that it names.</summary>
    /// <returns>Null, with the reason, when something is missing, cut off or altered.</returns>
    public static CacheManifest? TryRead(string folder, string key, out string reason)
    {
        try
        {
            byte[] bytes = File.ReadAllBytes(Path.Combine(folder, FileName));
            ReadOnlySpan<byte> json = bytes.AsSpan(Math.Min(17, bytes.Length));
            reason = "its manifest is damaged";
            if (!bytes.AsSpan().StartsWith(Encoding.ASCII.GetBytes($"{XxHash64.Hash(json):x16}\n")))
                return null;
            CacheManifest? manifest = JsonSerializer.Deserialize(json, EncodersJson.Default.CacheManifest);
            if (manifest is null || manifest.Version != CurrentVersion || manifest.Key != key)
            {
                reason = "it was built for something else";
                return null;
            }

            foreach (CacheFile file in manifest.Files)
            {
                if (!file.IsIntact(folder, out reason))
                    return null;
            }

            return manifest;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or JsonException)
        {
            reason = error.Message;
            return null;
        }
    }

    /// <summary>The blocks of a file that are checked at each start.</summary>
    public static IEnumerable<int> BlocksToCheck(int blocks)
    {
        int count = Math.Min(blocks, MostBlocksChecked);
        for (int i = 0; i < count; i++)
            yield return count == 1 ? 0 : (int)((long)i * (blocks - 1) / (count - 1));
    }
}

/// <summary>A split of a cache.</summary>
/// <param name="Name">train, validation or test.</param>
/// <param name="Rows">Its rows.</param>
internal sealed record CacheSplit(string Name, long Rows);

/// <summary>A file of a cache.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Length">Its bytes.</param>
/// <param name="Checksums">XXH64 of each block of <see cref="CacheManifest.ChecksumBytes"/>, the last one shorter.</param>
internal sealed record CacheFile(string Name, long Length, IReadOnlyList<ulong> Checksums)
{
    public bool IsIntact(string folder, out string reason)
    {
        reason = string.Empty;
        using FileStream file = new(Path.Combine(folder, Name), FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        if (file.Length != Length)
        {
            reason = $"{Name} has {file.Length:N0} bytes instead of {Length:N0}";
            return false;
        }

        byte[] block = new byte[Math.Min(Length, CacheManifest.ChecksumBytes)];
        foreach (int index in CacheManifest.BlocksToCheck(Checksums.Count))
        {
            file.Position = (long)index * CacheManifest.ChecksumBytes;
            int read = file.ReadAtLeast(block, block.Length, throwOnEndOfStream: false);
            if (XxHash64.Hash(block.AsSpan(0, read)) == Checksums[index])
                continue;
            reason = $"{Name} is damaged between byte {file.Position - read:N0} and {file.Position:N0}";
            return false;
        }

        return true;
    }
}

/// <summary>Writes a file of a cache and its checksums.</summary>
internal sealed class CacheFileWriter : IDisposable
{
    private readonly FileStream _file;
    private readonly string _name;
    private readonly byte[] _block;
    private readonly List<ulong> _checksums = [];
    private int _filled;
    private long _length;

    public CacheFileWriter(string folder, string name)
    {
        _name = name;
        _file = new(Path.Combine(folder, name), FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 0);
        _block = GC.AllocateUninitializedArray<byte>(CacheManifest.ChecksumBytes);
    }

    public void Write(ReadOnlySpan<byte> data)
    {
        while (!data.IsEmpty)
        {
            int count = Math.Min(data.Length, _block.Length - _filled);
            data[..count].CopyTo(_block.AsSpan(_filled));
            data = data[count..];
            _filled += count;
            if (_filled == _block.Length)
                WriteBlock();
        }
    }

    public CacheFile Finish()
    {
        if (_filled > 0)
            WriteBlock();
        _file.Flush(flushToDisk: true);
        return new(_name, _length, _checksums);
    }

    public void Dispose() => _file.Dispose();

    private void WriteBlock()
    {
        _checksums.Add(XxHash64.Hash(_block.AsSpan(0, _filled)));
        _file.Write(_block, 0, _filled);
        _length += _filled;
        _filled = 0;
    }
}
