using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Text.Json;
using CudaMoE.Data;

namespace CudaMoE.Graphs;

/// <summary>A user and an item that met, as a graph file keeps them: user after user, items ascending.</summary>
/// <param name="Item">The item.</param>
/// <param name="Mask">Bit t: they met in task t.</param>
internal readonly record struct Pair(int Item, int Mask);

/// <summary>A side of the graph.</summary>
public enum GraphSide
{
    /// <summary>The users.</summary>
    User,

    /// <summary>The items.</summary>
    Item,
}

/// <summary>
/// A macro graph from its file, memory-mapped: nodes, their macro nodes, the macro edges of first and second order and their weights. Macro node 0 of each
/// side is that of nodes without a cluster.
/// </summary>
public sealed unsafe class MacroGraph : IDisposable
{
    private readonly MappedFile _file;
    private readonly Dictionary<string, GraphSection> _sections;
    private readonly NodeIndex?[] _indexes = new NodeIndex?[2];

    private MacroGraph(string path, MappedFile file, GraphDirectory directory)
    {
        Path = path;
        Info = directory.Info;
        _file = file;
        _sections = directory.Sections.ToDictionary(section => section.Name, StringComparer.Ordinal);
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>What it was built with and holds.</summary>
    public MacroGraphInfo Info { get; }

    /// <summary>Bytes of the file.</summary>
    public long Length => _file.Length;

    /// <summary>Opens a file and checks all of it: a file that is cut off or altered is refused.</summary>
    /// <param name="path">The file.</param>
    /// <param name="progress">Called now and then, on this thread.</param>
    /// <param name="cancellation">Stops the check.</param>
    /// <exception cref="DataException">The file is missing, is no macro graph, or is damaged.</exception>
    public static MacroGraph Open(string path, Action<GraphProgress>? progress = null, CancellationToken cancellation = default)
    {
        if (!File.Exists(path))
            throw new DataException("there is no such macro graph; 'cudamoe graph build' makes one", path);
        MappedFile file = new(path, 0);
        try
        {
            MacroGraph graph = new(path, file, ReadDirectory(path, file));
            graph.Check(progress, cancellation);
            return graph;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Nodes of a side.</summary>
    public int Nodes(GraphSide side) => side == GraphSide.User ? Info.Users : Info.Items;

    /// <summary>Macro nodes of a side, the cold one included.</summary>
    public int MacroNodes(GraphSide side) => 1 + (side == GraphSide.User ? Info.UserNodes : Info.ItemNodes);

    /// <summary>Numbers of a row of <see cref="Weights"/>: macro nodes of the other side, then of this one.</summary>
    public int Width(GraphSide side) => MacroNodes(Other(side)) + MacroNodes(side);

    /// <summary>[nodes] macro node of each node.</summary>
    public ReadOnlySpan<int> Assignment(GraphSide side) => Section<int>(Name(side, "nodes"));

    /// <summary>The other side.</summary>
    public static GraphSide Other(GraphSide side) => side == GraphSide.User ? GraphSide.Item : GraphSide.User;

    /// <summary>Macro weights of a node: of first order over the macro nodes of the other side, then of second order over those of its own.</summary>
    public ReadOnlySpan<float> Weights(GraphSide side, int node) => Row<float>(Name(side, "weights"), node, Nodes(side), Width(side));

    /// <summary>Macro counts of first order, in units of 1 / <see cref="PairScores.Unit"/>, over the macro nodes of the other side.</summary>
    public ReadOnlySpan<long> First(GraphSide side, int node) => Row<long>(Name(side, "first"), node, Nodes(side), MacroNodes(Other(side)));

    /// <summary>Macro counts of second order, in units of the square of those of first order, over the macro nodes of the node's own side.</summary>
    public ReadOnlySpan<long> Second(GraphSide side, int node) => Row<long>(Name(side, "second"), node, Nodes(side), MacroNodes(side));

    /// <summary>The node with an id, or -1.</summary>
    public int Find(GraphSide side, ReadOnlySpan<byte> id) => (_indexes[(int)side] ??= NewIndex(side)).Find(id);

    /// <summary>The weights of a node that the graph does not know: all macro nodes alike, as for a node without edges.</summary>
    public void ColdWeights(GraphSide side, Span<float> weights)
    {
        int first = MacroNodes(Other(side));
        weights[..first].Fill(1f / first);
        weights[first..].Fill(1f / MacroNodes(side));
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    internal PairScores Scores => new(Info.Values, Info.Beta);

    internal Pair* Pairs => (Pair*)(_file.Pointer + _sections["pairs"].Offset);

    internal ReadOnlySpan<long> Starts => Section<long>("pairs.starts");

    internal ReadOnlySpan<float> Centres(GraphSide side) => Section<float>(Name(side, "centres"));

    /// <summary>The ids of a side; the caller may add to it.</summary>
    internal NodeIndex NewIndex(GraphSide side)
    {
        NodeIndex index = new();
        ReadOnlySpan<byte> text = Section<byte>(Name(side, "text"));
        int start = 0;
        foreach (int end in Section<int>(Name(side, "ends")))
        {
            index.Add(text[start..end], out _);
            start = end;
        }

        return index;
    }

    internal static string Name(GraphSide side, string part) => (side == GraphSide.User ? "users." : "items.") + part;

    private ReadOnlySpan<T> Row<T>(string name, int node, int nodes, int width)
        where T : unmanaged
    {
        ArgumentOutOfRangeException.ThrowIfNegative(node);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(node, nodes);
        return new((T*)(_file.Pointer + _sections[name].Offset) + ((long)node * width), width);
    }

    private ReadOnlySpan<T> Section<T>(string name)
        where T : unmanaged
    {
        GraphSection section = _sections[name];
        return new(_file.Pointer + section.Offset, checked((int)(section.Length / sizeof(T))));
    }

    private static GraphDirectory ReadDirectory(string path, MappedFile file)
    {
        if (file.Length < sizeof(ulong) || Unsafe.ReadUnaligned<ulong>(file.Pointer) != GraphFileWriter.Magic)
            throw new DataException("this is not a macro graph that CudaMoE wrote", path);
        long end = file.Length - GraphFileWriter.TrailerBytes;
        ReadOnlySpan<byte> trailer = end < 0 ? default : new(file.Pointer + end, GraphFileWriter.TrailerBytes);
        long place = end < 0 ? -1 : BinaryPrimitives.ReadInt64LittleEndian(trailer);
        long length = end < 0 ? -1 : BinaryPrimitives.ReadInt64LittleEndian(trailer[8..]);
        if (place < 0 || length < 0 || length > int.MaxValue || place != end - length)
            throw new DataException("the macro graph is cut off, or bytes follow it", path);
        ReadOnlySpan<byte> json = new(file.Pointer + place, (int)length);
        if (XxHash64.Hash(json) != BinaryPrimitives.ReadUInt64LittleEndian(trailer[16..]))
            throw new DataException("the directory of the macro graph was altered", path);
        GraphDirectory? directory;
        try
        {
            directory = JsonSerializer.Deserialize(json, GraphJson.Default.GraphDirectory);
        }
        catch (JsonException error)
        {
            throw new DataException($"the directory of the macro graph cannot be read: {error.Message}", path, 0, null, error);
        }

        return directory?.Version == GraphDirectory.CurrentVersion
            ? directory
            : throw new DataException($"the macro graph has version {directory?.Version ?? 0}; this program reads version {GraphDirectory.CurrentVersion}", path);
    }

    private void Check(Action<GraphProgress>? progress, CancellationToken cancellation)
    {
        long done = 0;
        foreach (GraphSection section in _sections.Values)
        {
            for (int block = 0; block < section.Checksums.Count; block++)
            {
                long start = (long)block * GraphFileWriter.BlockBytes;
                int length = (int)Math.Min(GraphFileWriter.BlockBytes, section.Length - start);
                if (XxHash64.Hash(new(_file.Pointer + section.Offset + start, length)) != section.Checksums[block])
                    throw new DataException($"section \"{section.Name}\" of the macro graph was altered between byte {section.Offset + start:N0} and {section.Offset + start + length:N0}", Path);
                done += length;
                cancellation.ThrowIfCancellationRequested();
                progress?.Invoke(new(GraphStage.Checking, (double)done / _file.Length, Info.Interactions));
            }
        }
    }
}
