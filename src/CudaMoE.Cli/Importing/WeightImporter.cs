using CudaMoE.Checkpoints;
using CudaMoE.Tensors;

namespace CudaMoE.Cli.Importing;

/// <summary>Takes the parameters of a model from a file of another program, by a layout and a map of names.</summary>
internal sealed class WeightImporter
{
    private const int MostProblems = 20;
    private readonly IReadOnlyList<ImportTarget> _targets;
    private readonly SafetensorsReader _file;
    private readonly ImportLayout? _layout;
    private readonly NameMap? _names;
    private readonly string _prefix;
    private readonly List<string> _problems = [];
    private readonly HashSet<string> _used = new(StringComparer.Ordinal);

    /// <param name="targets">The model's parameters.</param>
    /// <param name="file">The foreign tensors.</param>
    /// <param name="layout">A known layout; null = the map alone.</param>
    /// <param name="names">Names of what the layout does not have, or has otherwise; null = none.</param>
    /// <param name="prefix">What stands before the layout's names in the file.</param>
    public WeightImporter(IReadOnlyList<ImportTarget> targets, SafetensorsReader file, ImportLayout? layout, NameMap? names, string prefix)
    {
        _targets = targets;
        _file = file;
        _layout = layout;
        _names = names;
        _prefix = prefix;
    }

    /// <summary>Adds all parameters under their names.</summary>
    /// <returns>The number of parameters and of foreign tensors that they were taken from.</returns>
    /// <exception cref="CheckpointFormatException">Tensors are missing, left over, or of another shape; the message names them all, up to twenty.</exception>
    public (int Parameters, int Tensors) Run(SafetensorsWriter writer)
    {
        foreach (string name in _names?.Parameters ?? [])
        {
            if (_targets.All(target => target.Name != name))
                _problems.Add($"the map names \"{name}\", which is no parameter of this model; 'cudamoe inspect --parameters' lists them");
        }

        foreach (ImportTarget target in _targets)
            Add(target, writer);
        foreach (TensorEntry entry in _file.Header.Tensors)
        {
            if (!_used.Contains(entry.Name))
                CheckLeftOver(entry);
        }

        if (_problems.Count > 0)
        {
            string more = _problems.Count > MostProblems ? $"\nand {_problems.Count - MostProblems} more" : "";
            throw new CheckpointFormatException(_file.Header.File, $"does not fit the model:\n{string.Join('\n', _problems.Take(MostProblems))}{more}");
        }

        return (_targets.Count, _used.Count);
    }

    private void Add(ImportTarget target, SafetensorsWriter writer)
    {
        string shape = string.Join(", ", target.Shape);
        IReadOnlyList<ImportPiece>? pieces = Named(target) ?? _layout?.Pieces(target)?.Select(piece => piece.WithPrefix(_prefix)).ToList();
        if (pieces is null)
        {
            _problems.Add($"parameter \"{target.Name}\" [{shape}] has no source; give one in a map with --names");
            return;
        }

        float[] values = new float[target.Count];
        long start = 0;
        foreach (ImportPiece piece in pieces)
        {
            if (Read(target, piece) is { } numbers && start + piece.Count <= values.Length)
                numbers.CopyTo(values, start);
            start += piece.Count;
        }

        if (start != target.Count)
            _problems.Add($"parameter \"{target.Name}\" [{shape}] has {target.Count} numbers; its sources have {start}");
        if (target.Bf16)
            writer.Add(target.Name, TensorDataType.BF16, target.Shape, Array.ConvertAll(values, BFloat16.FromSingle));
        else
            writer.Add(target.Name, TensorDataType.F32, target.Shape, values);
    }

    /// <summary>Of a map's names: one has the parameter's shape, several an equal part of its first extent each, or its other extents alone.</summary>
    private List<ImportPiece>? Named(ImportTarget target)
    {
        if (_names?[target.Name] is not { } names)
            return null;
        if (names.Count == 1)
            return [ImportPiece.Whole(names[0], target.Shape)];
        long first = target.Shape[0];
        if (first % names.Count != 0)
        {
            _problems.Add($"parameter \"{target.Name}\" [{string.Join(", ", target.Shape)}] is given {names.Count} tensors, which do not divide its first extent");
            return [];
        }

        IReadOnlyList<long> part = [first / names.Count, .. target.Shape.Skip(1)];
        IReadOnlyList<long> alone = [.. target.Shape.Skip(1)];
        return [.. names.Select(name => ImportPiece.Whole(name, first == names.Count && _file.Header.TryGet(name, out TensorEntry? entry) && entry!.Shape.SequenceEqual(alone) ? alone : part))];
    }

    /// <summary>The numbers of a piece; null where a tensor is missing or has another shape.</summary>
    private float[]? Read(ImportTarget target, ImportPiece piece)
    {
        float[][] values = new float[piece.Sources.Count][];
        bool complete = true;
        for (int i = 0; i < values.Length; i++)
        {
            ForeignTensor source = piece.Sources[i];
            if (!_file.Header.TryGet(source.Name, out TensorEntry? entry))
            {
                _problems.Add($"tensor \"{source.Name}\" [{string.Join(", ", source.Shape)}] of parameter \"{target.Name}\" is missing");
                complete = false;
                continue;
            }

            _used.Add(source.Name);
            if (!entry!.Shape.SequenceEqual(source.Shape))
            {
                _problems.Add($"tensor \"{source.Name}\" has shape [{string.Join(", ", entry.Shape)}]; parameter \"{target.Name}\" needs [{string.Join(", ", source.Shape)}]");
                complete = false;
                continue;
            }

            values[i] = Numbers(entry);
        }

        return complete ? piece.Compute(values) : null;
    }

    private void CheckLeftOver(TensorEntry entry)
    {
        string? name = _layout is not null && entry.Name.StartsWith(_prefix, StringComparison.Ordinal) ? entry.Name[_prefix.Length..] : null;
        if (name is not null && _layout!.IsIgnored(name))
            return;
        if (name is not null && _layout!.SameAs(name) is { } first && _file.Header.TryGet(_prefix + first, out TensorEntry? same))
        {
            if (!same!.Shape.SequenceEqual(entry.Shape) || !Numbers(same).AsSpan().SequenceEqual(Numbers(entry)))
                _problems.Add($"tensor \"{entry.Name}\" differs from \"{same.Name}\"; there they are one");
            return;
        }

        _problems.Add($"tensor \"{entry.Name}\" [{string.Join(", ", entry.Shape)}] has no place in this model");
    }

    private float[] Numbers(TensorEntry entry)
    {
        float[] values = new float[entry.Count];
        _file.ReadSingles(entry.Name, values);
        return values;
    }
}
