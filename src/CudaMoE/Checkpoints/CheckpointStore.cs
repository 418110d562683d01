using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace CudaMoE.Checkpoints;

/// <summary>
/// The checkpoints of a run: folders <c>000001-step-1000</c>, <c>000002-step-2000</c>, ... and the files <c>latest</c> and
/// <c>best</c>, which each hold the name of one. A new checkpoint is built under a temporary name and renamed when it is
/// complete, and only then do the files point to it: a kill at any moment leaves the old or the new one as the latest.
/// </summary>
/// <remarks>
/// One writer at a time, also between processes (a lock file says so); readers need no lock. What a killed writer left is deleted by
/// the next save. Nothing but folders and files of these name patterns is ever touched.
/// </remarks>
public sealed partial class CheckpointStore
{
    private const string LatestFile = "latest";
    private const string BestFile = "best";
    private const string LockFile = ".lock";
    private const int Attempts = 100;

    private readonly int _keep;

    /// <summary>Names a store; its folder is made by the first save.</summary>
    /// <param name="folder">The parent of the checkpoints.</param>
    /// <param name="keep">How many of the newest checkpoints stay, beside the latest and the best; at least 1.</param>
    public CheckpointStore(string folder, int keep = 3)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(keep, 1);
        Folder = Path.GetFullPath(folder);
        _keep = keep;
    }

    /// <summary>The parent of the checkpoints.</summary>
    public string Folder { get; }

    /// <summary>Called before each step of a save with the step's name, for tests that kill the writer there.</summary>
    internal Action<string> Stage { get; init; } = _ => { };

    /// <summary>Paths of all checkpoints, oldest first. They are complete but not verified.</summary>
    public IReadOnlyList<string> List() => Directory.Exists(Folder)
        ? [.. Directory.EnumerateDirectories(Folder).Where(path => Sequence(path) > 0).OrderBy(Sequence)]
        : [];

    /// <summary>Saves a checkpoint and makes it the latest.</summary>
    /// <param name="content">What goes in.</param>
    /// <param name="best">Whether it also becomes the best.</param>
    /// <returns>Its path.</returns>
    /// <exception cref="CudaMoEException">Another process is saving into this store.</exception>
    /// <exception cref="IOException">It cannot be written; the store is as it was.</exception>
    public string Save(CheckpointContent content, bool best = false)
    {
        Directory.CreateDirectory(Folder);
        using FileStream writerLock = TakeLock();
        Stage("clean");
        DeleteLeftovers();
        long sequence = List().Select(Sequence).DefaultIfEmpty(0).Max() + 1;
        string name = string.Create(CultureInfo.InvariantCulture, $"{sequence:D6}-step-{content.State.Step}");
        string temporary = Path.Combine(Folder, $".saving-{name}");
        string final = Path.Combine(Folder, name);
        try
        {
            Directory.CreateDirectory(temporary);
            CheckpointFolder.WriteInto(temporary, content, Stage);
            Stage("rename");
            FileNames.MoveFolder(temporary, final);
        }
        catch
        {
            TryDelete(temporary);
            throw;
        }

        Stage(LatestFile);
        Point(LatestFile, name);
        if (best)
        {
            Stage(BestFile);
            Point(BestFile, name);
        }

        Stage("prune");
        Prune();
        return final;
    }

    /// <summary>Makes an existing checkpoint of this store the best.</summary>
    /// <exception cref="CudaMoEException">It is not one of this store, or another process is saving.</exception>
    public void MarkBest(string path)
    {
        string full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        if (Path.GetDirectoryName(full) != Folder || Sequence(full) == 0 || !Directory.Exists(full))
            throw new CudaMoEException($"{path} is not a checkpoint in {Folder}");
        using FileStream writerLock = TakeLock();
        Point(BestFile, Path.GetFileName(full));
    }

    /// <summary>Deletes the newest checkpoints: the first <paramref name="count"/> stay, and the last of these becomes the latest.</summary>
    /// <remarks>A kill in the middle leaves more of them than asked for; the same call again ends it.</remarks>
    /// <exception cref="CudaMoEException">Another process is saving.</exception>
    public void RollBack(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        IReadOnlyList<string> all = List();
        if (count >= all.Count)
            return;
        using FileStream writerLock = TakeLock();
        if (count > 0)
            Point(LatestFile, Path.GetFileName(all[count - 1]));
        else
            File.Delete(Path.Combine(Folder, LatestFile));
        string? best = ReadPointer(BestFile);
        foreach (string path in all.Skip(count).Reverse())
        {
            if (Path.GetFileName(path) == best)
                File.Delete(Path.Combine(Folder, BestFile));
            string deleting = Path.Combine(Folder, ".deleting-" + Path.GetFileName(path));
            FileNames.MoveFolder(path, deleting);
            TryDelete(deleting);
        }
    }

    /// <summary>Opens and verifies the latest checkpoint; null when none was saved yet.</summary>
    /// <exception cref="CheckpointFormatException">It was altered, or the pointer names nothing.</exception>
    public CheckpointFolder? OpenLatest() => OpenPointed(LatestFile);

    /// <summary>Opens and verifies the best checkpoint; null when none was marked yet.</summary>
    /// <exception cref="CheckpointFormatException">It was altered, or the pointer names nothing.</exception>
    public CheckpointFolder? OpenBest() => OpenPointed(BestFile);

    /// <summary>Opens and verifies the checkpoint that a path means: itself, or of a run folder or store the best one, or the latest where none is the best.</summary>
    /// <returns>Null when there is none.</returns>
    /// <exception cref="CheckpointFormatException">It was altered.</exception>
    /// <remarks>Where a run goes on training its checkpoints come and go: <see cref="Load"/> holds against that.</remarks>
    public static CheckpointFolder? Find(string path)
    {
        if (File.Exists(Path.Combine(path, CheckpointFolder.ManifestFile)))
            return CheckpointFolder.Open(path);
        string inRun = Path.Combine(path, "checkpoints");
        CheckpointStore store = new(Directory.Exists(inRun) ? inRun : path);
        return store.OpenBest() ?? store.OpenLatest();
    }

    /// <summary>
    /// Loads from the checkpoint that a path means, as <see cref="Find"/> has it. A run that goes on training may delete the checkpoint meanwhile; the one that
    /// the path means then is loaded in its place.
    /// </summary>
    /// <param name="path">A checkpoint, a run folder or a store.</param>
    /// <param name="load">Reads the checkpoint's files. Called again, with another checkpoint, when it fails because its own was deleted; what it made by then it has to free.</param>
    /// <returns>What <paramref name="load"/> gave; the type's default when there is no checkpoint.</returns>
    /// <exception cref="CheckpointFormatException">The checkpoint was altered, or it was deleted and the path means no other; the message names it.</exception>
    public static T? Load<T>(string path, Func<CheckpointFolder, T> load)
    {
        CheckpointFormatException? deleted = null;
        for (int attempt = 0; attempt < Attempts; attempt++)
        {
            if (Find(path) is not { } checkpoint)
                return deleted is null ? default : throw deleted;
            try
            {
                return checkpoint.Load(load);
            }
            catch (CheckpointFormatException error) when (checkpoint.IsDeleted)
            {
                deleted = error;
            }
        }

        throw deleted!;
    }

    [GeneratedRegex(@"^(?<sequence>\d{6,18})-step-\d{1,19}$", RegexOptions.CultureInvariant)]
    private static partial Regex NamePattern();

    [GeneratedRegex(@"^\.(saving|deleting)-\d{6,18}-step-\d{1,19}$", RegexOptions.CultureInvariant)]
    private static partial Regex LeftoverPattern();

    private static long Sequence(string path)
    {
        Match match = NamePattern().Match(Path.GetFileName(path));
        return match.Success ? long.Parse(match.Groups["sequence"].ValueSpan, CultureInfo.InvariantCulture) : 0;
    }

    private CheckpointFolder? OpenPointed(string pointer)
    {
        // A writer may prune the checkpoint while it is being read; the pointer then names a newer one.
        string? name = ReadPointer(pointer);
        for (int attempt = 1; name is not null; attempt++)
        {
            try
            {
                return CheckpointFolder.Open(Path.Combine(Folder, name));
            }
            catch (CheckpointFormatException) when (attempt < Attempts && ReadPointer(pointer) is { } newer && newer != name)
            {
                name = newer;
            }
        }

        return null;
    }

    private string? ReadPointer(string pointer)
    {
        string path = Path.Combine(Folder, pointer);
        try
        {
            string name = string.Empty;
            FileNames.WhileHeld(() => name = File.ReadAllText(path).TrimEnd('\n'));
            return Sequence(name) > 0 && Path.GetFileName(name) == name
                ? name
                : throw new CheckpointFormatException(path, $"holds \"{name[..Math.Min(name.Length, 80)]}\"; it must hold the name of a checkpoint such as 000001-step-1000");
        }
        catch (Exception error) when (error is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
    }

    private void Point(string pointer, string name) => AtomicFile.Write(Path.Combine(Folder, pointer), Encoding.ASCII.GetBytes(name + "\n"));

    private void Prune()
    {
        HashSet<string?> pointed = [ReadPointer(LatestFile), ReadPointer(BestFile)];
        foreach (string path in List().SkipLast(_keep))
        {
            string name = Path.GetFileName(path);
            if (pointed.Contains(name))
                continue;
            string deleting = Path.Combine(Folder, ".deleting-" + name);
            try
            {
                // Renamed first, so that a kill in the middle leaves no half checkpoint under a checkpoint's name.
                Directory.Move(path, deleting);
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                continue; // A reader holds it (Windows); the next save tries again.
            }

            TryDelete(deleting);
        }
    }

    private void DeleteLeftovers()
    {
        foreach (string path in Directory.EnumerateDirectories(Folder))
        {
            if (LeftoverPattern().IsMatch(Path.GetFileName(path)))
                TryDelete(path);
        }
    }

    private static void TryDelete(string folder)
    {
        try
        {
            if (Directory.Exists(folder))
                Directory.Delete(folder, recursive: true);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // A reader holds a file (Windows); the next save tries again.
        }
    }

    private FileStream TakeLock()
    {
        try
        {
            return new(Path.Combine(Folder, LockFile), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException error) when (error is not (DirectoryNotFoundException or FileNotFoundException or PathTooLongException))
        {
            throw new CudaMoEException($"{Folder}: another process is saving a checkpoint here ({error.Message})", error);
        }
    }
}
