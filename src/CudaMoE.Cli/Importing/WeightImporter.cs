using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Tensors;

namespace CudaMoE.Cli.Importing;

/// <summary>Takes the parameters of a model from a file of another program, by a layout and a map of names.</summary>
internal sealed class WeightImporter
{
    private const int MostProblems = 20;
    private readonly ModelDescription _description;
    private readonly SafetensorsReader _file;
    private readonly AdattLayout? _layout;
    private readonly NameMap? _names;
    private readonly string _prefix;
    private readonly List<string> _problems = [];
    private readonly HashSet<string> _used = new(StringComparer.Ordinal);

    /// <param name="description">The model.</param>
    /// <param name="file">The foreign tensors.</param>
    /// <param name="layout">A known layout; null = the map alone.</param>
    /// <param name="names">Names of what the layout does not have, or has otherwise; null = none.</param>
    /// <param name="prefix">What stands before the layout's names in the file.</param>
    public WeightImporter(ModelDescription description, SafetensorsReader file, AdattLayout? layout, NameMap? names, string prefix)
    {
        _description = description;
        _file = file;
        _layout = layout;
        _names = names;
        _prefix = prefix;
    }

    /// <summary>Adds all parameters under their names.</summary>
    /// <returns>The number of parameters and of foreign tensors.</returns>
    /// <exception cref="CheckpointFormatException">Tensors are missing, left over, or of another shape; the message names them all, up to twenty.</exception>
    public (int Parameters, int Tensors) Run(SafetensorsWriter writer)
    {
        ModelShape shape = ModelShape.Of(_description, TableRows, Classes);
        using Device device = Device.Open("cpu:threads=1");
        using MultiTaskModel model = new(device, _description with { Training = new() }, shape.Layout, shape.Outputs, maxRows: 1, training: false);
        foreach (string name in _names?.Parameters ?? [])
        {
            if (model.Parameters.All(parameter => parameter.Name != name))
                _problems.Add($"the map names \"{name}\", which is no parameter of this model; 'cudamoe inspect --parameters' lists them");
        }

        foreach (Parameter parameter in model.Parameters)
            Add(parameter, writer);
        foreach (TensorEntry entry in _file.Header.Tensors)
        {
            if (!_used.Contains(entry.Name))
                _problems.Add($"tensor \"{entry.Name}\" [{string.Join(", ", entry.Shape)}] has no place in this model");
        }

        if (_problems.Count > 0)
        {
            string more = _problems.Count > MostProblems ? $"\nand {_problems.Count - MostProblems} more" : "";
            throw new CheckpointFormatException(_file.Header.File, $"does not fit the model:\n{string.Join('\n', _problems.Take(MostProblems))}{more}");
        }

        return (model.Parameters.Count, _used.Count);
    }

    private void Add(Parameter parameter, SafetensorsWriter writer)
    {
        IReadOnlyList<ImportPiece>? pieces = Named(parameter) ?? _layout?.Pieces(parameter)?.Select(piece => piece with { Tensor = _prefix + piece.Tensor }).ToList();
        if (pieces is null)
        {
            _problems.Add($"parameter \"{parameter.Name}\" [{string.Join(", ", parameter.Shape)}] has no source; give one in a map with --names");
            return;
        }

        float[] values = new float[parameter.Count];
        long start = 0;
        foreach (ImportPiece piece in pieces)
        {
            Read(parameter, piece, values.AsSpan((int)start));
            start += piece.Count;
        }

        if (start != parameter.Count)
            _problems.Add($"parameter \"{parameter.Name}\" [{string.Join(", ", parameter.Shape)}] has {parameter.Count} numbers; its sources have {start}");
        if (parameter.Type == ElementType.F32)
            writer.Add(parameter.Name, TensorDataType.F32, parameter.Shape, values);
        else
            writer.Add(parameter.Name, TensorDataType.BF16, parameter.Shape, Array.ConvertAll(values, BFloat16.FromSingle));
    }

    /// <summary>Of a map's names: one has the parameter's shape, several an equal part of its first extent each, or its other extents alone.</summary>
    private List<ImportPiece>? Named(Parameter parameter)
    {
        if (_names?[parameter.Name] is not { } names)
            return null;
        if (names.Count == 1)
            return [new(names[0], parameter.Shape)];
        long first = parameter.Shape[0];
        if (first % names.Count != 0)
        {
            _problems.Add($"parameter \"{parameter.Name}\" [{string.Join(", ", parameter.Shape)}] is given {names.Count} tensors, which do not divide its first extent");
            return [];
        }

        IReadOnlyList<long> part = [first / names.Count, .. parameter.Shape.Skip(1)];
        IReadOnlyList<long> alone = [.. parameter.Shape.Skip(1)];
        return [.. names.Select(name => new ImportPiece(name, first == names.Count && _file.Header.TryGet(name, out TensorEntry? entry) && entry!.Shape.SequenceEqual(alone) ? alone : part))];
    }

    private void Read(Parameter parameter, ImportPiece piece, Span<float> target)
    {
        if (!_file.Header.TryGet(piece.Tensor, out TensorEntry? entry))
        {
            _problems.Add($"tensor \"{piece.Tensor}\" [{string.Join(", ", piece.Shape)}] of parameter \"{parameter.Name}\" is missing");
            return;
        }

        _used.Add(piece.Tensor);
        if (!entry!.Shape.SequenceEqual(piece.Shape))
        {
            _problems.Add($"tensor \"{piece.Tensor}\" has shape [{string.Join(", ", entry.Shape)}]; parameter \"{parameter.Name}\" needs [{string.Join(", ", piece.Shape)}]");
            return;
        }

        if (target.Length < piece.Count)
            return;
        float[] all = new float[entry.Count];
        _file.ReadSingles(piece.Tensor, all);
        all.AsSpan((int)((piece.Row ?? 0) * piece.Count), (int)piece.Count).CopyTo(target);
    }

    private int TableRows(FeatureDescription feature)
    {
        string parameter = ParameterFile.TableName(feature.Table ?? feature.Name);
        string tensor = _names?[parameter] is [var name] ? name : throw new UsageException($"parameter \"{parameter}\" has no source; name its tensor in a map with --names");
        TensorEntry entry = _file.Header[tensor];
        return entry.Shape is [>= 1 and <= int.MaxValue, _]
            ? (int)entry.Shape[0]
            : throw new CheckpointFormatException(_file.Header.File, $"tensor \"{tensor}\" has shape [{string.Join(", ", entry.Shape)}]; a table has two extents, rows and dimension");
    }

    private int Classes(TaskDescription task) => task.Classes?.Count
        ?? throw new UsageException($"task \"{task.Name}\" has no classes; list them in the model file, since its data are not read");
}
