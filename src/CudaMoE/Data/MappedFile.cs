using System.IO.MemoryMappedFiles;

namespace CudaMoE.Data;

/// <summary>A file mapped for reading. It stays mapped until its owner and all loaders that hold it have let go.</summary>
internal sealed unsafe class MappedFile : IDisposable
{
    private readonly MemoryMappedFile? _file;
    private readonly MemoryMappedViewAccessor? _view;

    // The owner's and the loaders' shares.
    private int _shares = 1;
    private bool _disposed;

    public MappedFile(string path, long expectedLength)
    {
        long length = new FileInfo(path).Length;
        if (length < expectedLength)
            throw new DataException($"the file has {length:N0} bytes instead of {expectedLength:N0}", path);
        Length = length;
        if (length == 0)
            return;
        try
        {
            _file = MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
            _view = _file.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
            byte* pointer = null;
            _view.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
            Pointer = pointer;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            _view?.Dispose();
            _file?.Dispose();
            throw new DataException($"the file cannot be mapped: {error.Message}", path, 0, null, error);
        }
    }

    /// <summary>The first byte; null when the file is empty.</summary>
    public byte* Pointer { get; private set; }

    /// <summary>Its bytes.</summary>
    public long Length { get; }

    public void Hold()
    {
        int shares = Volatile.Read(ref _shares);
        while (true)
        {
            ObjectDisposedException.ThrowIf(_disposed || shares == 0, this);
            int seen = Interlocked.CompareExchange(ref _shares, shares + 1, shares);
            if (seen == shares)
                return;
            shares = seen;
        }
    }

    public void Release()
    {
        if (Interlocked.Decrement(ref _shares) > 0 || _view is null)
            return;
        Pointer = null;
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _file!.Dispose();
    }

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        Release();
    }
}
