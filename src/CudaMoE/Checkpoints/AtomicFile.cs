using System.Security.Cryptography;

namespace CudaMoE.Checkpoints;

/// <summary>Length and content hash of a file.</summary>
/// <param name="Length">Bytes.</param>
/// <param name="Sha256">SHA-256 in lower-case hexadecimal.</param>
public sealed record FileDigest(long Length, string Sha256)
{
    /// <summary>Reads a whole file.</summary>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static FileDigest Of(string path)
    {
        using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 1 << 20, FileOptions.SequentialScan);
        byte[] hash = SHA256.HashData(stream);
        return new(stream.Position, Convert.ToHexStringLower(hash));
    }
}

/// <summary>Writes a file so that its name holds either the old or the whole new content, also after a kill or a power cut.</summary>
public static class AtomicFile
{
    private const string Suffix = ".tmp";

    // A writer creates its temporary file and then locks it; a file younger than this may be between the two.
    private static readonly TimeSpan LeftoverAge = TimeSpan.FromMinutes(1);

    /// <summary>
    /// Writes under a temporary name in the same folder, flushes to the disk, renames. Temporary files of that name that a killed writer
    /// left are deleted.
    /// </summary>
    /// <returns>Length and SHA-256 of what was written.</returns>
    /// <exception cref="IOException">The file cannot be written; the temporary file is gone.</exception>
    public static FileDigest Write(string path, Action<Stream> write)
    {
        string full = Path.GetFullPath(path);
        string folder = Path.GetDirectoryName(full)!;
        string prefix = $".{Path.GetFileName(full)}.";
        DeleteLeftovers(folder, prefix);
        string temporary = Path.Combine(folder, $"{prefix}{Guid.NewGuid():N}{Suffix}");
        try
        {
            FileDigest digest;
            using (FileStream file = new(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 0))
            {
                using (HashingStream hashing = new(file))
                {
                    write(hashing);
                    hashing.Flush();
                    digest = hashing.Digest();
                }

                file.Flush(flushToDisk: true);
            }

            FileNames.MoveFile(temporary, full);
            return digest;
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }

    /// <summary>As <see cref="Write(string, Action{Stream})"/>, of bytes in memory.</summary>
    public static FileDigest Write(string path, ReadOnlySpan<byte> content)
    {
        byte[] copy = content.ToArray();
        return Write(path, stream => stream.Write(copy));
    }

    private static void DeleteLeftovers(string folder, string prefix)
    {
        foreach (string path in Directory.EnumerateFiles(folder))
        {
            ReadOnlySpan<char> name = Path.GetFileName(path.AsSpan());
            if (!name.StartsWith(prefix, StringComparison.Ordinal) || !name.EndsWith(Suffix, StringComparison.Ordinal) || name.Length < prefix.Length + Suffix.Length)
                continue;
            if (!Guid.TryParseExact(name[prefix.Length..^Suffix.Length], "N", out _) || DateTime.UtcNow - File.GetLastWriteTimeUtc(path) < LeftoverAge)
                continue;
            try
            {
                // Opens only when no living writer holds it.
                using (new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None))
                {
                }

                File.Delete(path);
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                // In use, or gone already: not ours to delete.
            }
        }
    }

    /// <summary>Collects small writes, hashes what passes through, and counts it. Does not close the file.</summary>
    private sealed class HashingStream(FileStream file) : Stream
    {
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        private readonly byte[] _buffer = new byte[1 << 16];
        private int _filled;
        private long _length;

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => _length;

        public override long Position
        {
            get => _length;
            set => throw new NotSupportedException();
        }

        public FileDigest Digest() => new(_length, Convert.ToHexStringLower(_hash.GetHashAndReset()));

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            _length += buffer.Length;
            if (buffer.Length > _buffer.Length - _filled)
                Flush();
            if (buffer.Length >= _buffer.Length)
            {
                _hash.AppendData(buffer);
                file.Write(buffer);
                return;
            }

            buffer.CopyTo(_buffer.AsSpan(_filled));
            _filled += buffer.Length;
        }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void WriteByte(byte value) => Write([value]);

        public override void Flush()
        {
            ReadOnlySpan<byte> part = _buffer.AsSpan(0, _filled);
            _hash.AppendData(part);
            file.Write(part);
            _filled = 0;
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            _hash.Dispose();
            base.Dispose(disposing);
        }
    }
}
