using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Layers;
using CudaMoE.Models;
using CudaMoE.Streaming;
using CudaMoE.Tensors;

namespace CudaMoE.Cli.Importing;

/// <summary>The parameters of a model, whose sizes that its description leaves open are taken from foreign tensors.</summary>
internal static class ImportTargets
{
    /// <summary>Of a model file.</summary>
    public static List<ImportTarget> Of(ModelDescription description, SafetensorsHeader file, ImportLayout? layout, NameMap? names, string prefix)
    {
        ModelShape shape = ModelShape.Of(description, TableRows, Classes);
        using Device device = Device.Open("cpu:threads=1");
        using MultiTaskModel model = new(device, description with { Training = new() }, shape.Layout, shape.Outputs, maxRows: 1, training: false);
        return Of(model.Parameters);

        int TableRows(FeatureDescription feature)
        {
            string table = feature.Table ?? feature.Name;
            string parameter = ParameterFile.TableNames(description, table)[0];
            string? known = layout?.Table(table);
            string tensor = names?[parameter] is [var name] ? name
                : known is not null ? prefix + known
                : throw new UsageException($"parameter \"{parameter}\" has no source; name its tensor in a map with --names");
            TensorEntry entry = file[tensor];
            return entry.Shape is [>= 1 and <= int.MaxValue, _]
                ? (int)entry.Shape[0]
                : throw new CheckpointFormatException(file.File, $"tensor \"{tensor}\" has shape [{string.Join(", ", entry.Shape)}]; a table has two extents, rows and dimension");
        }

        int Classes(TaskDescription task) => task.Classes?.Count ?? layout?.Classes(file, prefix)
            ?? throw new UsageException($"task \"{task.Name}\" has no classes; list them in the model file, since its data are not read");
    }

    /// <summary>Of a stream file.</summary>
    public static List<ImportTarget> Of(StreamDescription description, IReadOnlyList<ProbedSide> sides)
    {
        using Device device = Device.Open("cpu:threads=1");
        using StreamProbe probe = new(device, description, sides, sequences: 1, items: 1);
        return Of(probe.Parameters);
    }

    private static List<ImportTarget> Of(IReadOnlyList<Parameter> parameters) =>
        [.. parameters.Select(parameter => new ImportTarget(parameter.Name, parameter.Shape, parameter.Type == ElementType.Bf16))];
}
