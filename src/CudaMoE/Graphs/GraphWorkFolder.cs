using CudaMoE.Checkpoints;

namespace CudaMoE.Graphs;

/// <summary>A folder beside a file that is being made; what is left in it goes away with it, and the file appears whole or not at all.</summary>
internal sealed class GraphWorkFolder : IDisposable
{
    private readonly string _target;

    public GraphWorkFolder(string target)
    {
        _target = System.IO.Path.GetFullPath(target);
        Path = $"{_target}.{Environment.ProcessId}.{Guid.NewGuid():N}.tmp";
        Directory.CreateDirectory(Path);
    }

    /// <summary>The folder.</summary>
    public string Path { get; }

    /// <summary>Where the file is written.</summary>
    public string File => System.IO.Path.Combine(Path, "graph");

    /// <summary>Gives the file its name.</summary>
    public void Publish() => FileNames.MoveFile(File, _target);

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
