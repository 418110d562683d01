using System.Globalization;
using CudaMoE.Checkpoints;

namespace CudaMoE.Training;

/// <summary>The folder of one run: <c>model.json</c>, <c>metrics.jsonl</c>, <c>checkpoints/</c> and <c>report.html</c>.</summary>
public sealed class RunFolder
{
    private RunFolder(string path) => Path = path;

    /// <summary>The folder, as a full path.</summary>
    public string Path { get; }

    /// <summary>The model description that the run was started with.</summary>
    public string ModelPath => System.IO.Path.Combine(Path, "model.json");

    /// <summary>The run log.</summary>
    public string MetricsPath => System.IO.Path.Combine(Path, "metrics.jsonl");

    /// <summary>The folder of checkpoints.</summary>
    public string CheckpointsPath => System.IO.Path.Combine(Path, "checkpoints");

    /// <summary>The report.</summary>
    public string ReportPath => System.IO.Path.Combine(Path, "report.html");

    /// <summary>Creates <c>root/name-yyyyMMdd-HHmmss</c>, or with <c>-2</c>, <c>-3</c>, ... behind it where that exists.</summary>
    /// <param name="root">Folder of all runs; created where it is missing.</param>
    /// <param name="name">Name of the model.</param>
    /// <param name="clock">Gives the local time; null = the system's.</param>
    /// <exception cref="RunLogException">The folder cannot be created.</exception>
    public static RunFolder Create(string root, string name, TimeProvider? clock = null)
    {
        string stamp = (clock ?? TimeProvider.System).GetLocalNow().ToString("yyyyMMdd-HHmmss", CultureInfo.InvariantCulture);
        string stem = System.IO.Path.GetFullPath(System.IO.Path.Combine(root, $"{name}-{stamp}"));
        try
        {
            Directory.CreateDirectory(root);
            for (int attempt = 1; ; attempt++)
            {
                string path = attempt == 1 ? stem : $"{stem}-{attempt}";
                if (Directory.Exists(path) || File.Exists(path))
                    continue;
                if (Claim(path) is { } folder)
                    return folder;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new RunLogException($"cannot create the run folder {stem}: {e.Message}", e);
        }
    }

    /// <summary>Holds the run for this process until the result is disposed, so that no two write its log and checkpoints at once.</summary>
    /// <exception cref="RunLogException">Another process trains in it, or the folder cannot be written.</exception>
    internal FileStream Hold()
    {
        string path = System.IO.Path.Combine(Path, ".lock");
        try
        {
            return new(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new RunLogException($"cannot hold the run {Path}: {e.Message} If another process trains in it, wait until that ends, or stop it", e);
        }
    }

    // A folder with something in it takes the name of no other, so of two runs that begin at once one gets it; null for the other.
    private static RunFolder? Claim(string path)
    {
        RunFolder made = new($"{path}.{Guid.NewGuid():N}");
        Directory.CreateDirectory(made.CheckpointsPath);
        try
        {
            FileNames.MoveFolder(made.Path, path);
            return new(path);
        }
        catch (IOException) when (Directory.Exists(path) || File.Exists(path))
        {
            Directory.Delete(made.Path, recursive: true);
            return null;
        }
    }

    /// <summary>The run folder at <paramref name="path"/>.</summary>
    /// <exception cref="RunLogException">There is no such folder, or it has no run log.</exception>
    public static RunFolder Open(string path)
    {
        RunFolder folder = new(System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(path)));
        if (!Directory.Exists(folder.Path))
            throw new RunLogException($"there is no run folder {path}");
        if (!File.Exists(folder.MetricsPath))
            throw new RunLogException($"{path} is not a run folder: it has no metrics.jsonl");
        return folder;
    }
}
