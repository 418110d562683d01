namespace CudaMoE.Data;

/// <summary>Opens plain and gzip files with errors that name the file and the reason.</summary>
internal static class TextFile
{
    public static FileStream Open(string path)
    {
        try
        {
            return new FileStream(path, new FileStreamOptions
            {
                Mode = FileMode.Open,
                Access = FileAccess.Read,
                Share = FileShare.Read,
                BufferSize = 1 << 16,
                Options = FileOptions.SequentialScan,
            });
        }
        catch (Exception error) when (error is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new DataException(
                Directory.Exists(path) ? "this is a folder; a file is needed" : "there is no such file", path, 0, null, error);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            string reason = Directory.Exists(path) ? "this is a folder; a file is needed" : $"the file cannot be opened: {error.Message}";
            throw new DataException(reason, path, 0, null, error);
        }
    }

    /// <summary>The text of a file: itself, or what its gzip data holds. The first two bytes decide; a <c>.gz</c> name without them is an
    /// error.</summary>
    public static Stream Decompress(FileStream file, string path)
    {
        int first = file.ReadByte();
        int second = file.ReadByte();
        file.Position = 0;
        if (first == 0x1F && second == 0x8B)
            return new GzipReader(file);
        if (first >= 0 && path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase))
            throw new DataException("the name ends in .gz, but the content is not gzip data", path);
        return file;
    }
}
