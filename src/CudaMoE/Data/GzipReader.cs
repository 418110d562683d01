using System.IO.Compression;
using System.Security.Cryptography;

namespace CudaMoE.Data;

/// <summary>
/// Decompresses gzip data of one or several members and notices when it is cut off, which <see cref="GZipStream"/> passes over: it ends
/// without an error wherever its input ends.
/// </summary>
/// <remarks>
/// A member that holds a random mark is put behind the file's data. It decompresses to the mark if, and only if, all members before it
/// are complete; the mark is held back from the reader.
/// </remarks>
internal sealed class GzipReader : Stream
{
    private const int MarkBytes = 16;
    private readonly byte[] _mark = RandomNumberGenerator.GetBytes(MarkBytes);
    private readonly byte[] _buffer = new byte[1 << 16];
    private readonly GZipStream _gzip;
    private int _start;
    private int _end;
    private bool _ended;

    public GzipReader(Stream file)
    {
        MemoryStream member = new();
        using (GZipStream gzip = new(member, CompressionMode.Compress, leaveOpen: true))
            gzip.Write(_mark);
        member.Position = 0;
        _gzip = new(new Concatenation(file, member), CompressionMode.Decompress);
    }

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <exception cref="InvalidDataException">The data is broken or cut off.</exception>
    public override int Read(Span<byte> buffer)
    {
        if (buffer.IsEmpty)
            return 0;
        while (_end - _start <= MarkBytes && !_ended)
        {
            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            _end -= _start;
            _start = 0;
            int read = _gzip.Read(_buffer, _end, _buffer.Length - _end);
            _end += read;
            if (read > 0)
                continue;
            _ended = true;
            if (!_buffer.AsSpan(0, _end).SequenceEqual(_mark))
                throw new InvalidDataException("it ends in the middle of a member, or something else follows the last one");
        }

        int count = Math.Min(buffer.Length, _end - _start - MarkBytes);
        _buffer.AsSpan(_start, count).CopyTo(buffer);
        _start += count;
        return count;
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
            _gzip.Dispose();
        base.Dispose(disposing);
    }

    /// <summary>One stream behind another.</summary>
    private sealed class Concatenation(Stream first, Stream second) : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override int Read(Span<byte> buffer)
        {
            int read = first.Read(buffer);
            return read > 0 ? read : second.Read(buffer);
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            if (disposing)
                first.Dispose();
            base.Dispose(disposing);
        }
    }
}
