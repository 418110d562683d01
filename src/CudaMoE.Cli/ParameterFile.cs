using System.Text.Json;
using CudaMoE.Checkpoints;
using CudaMoE.Description;
using CudaMoE.Models;

namespace CudaMoE.Cli;

/// <summary>What the tensors of a parameter file say about the model that they belong to.</summary>
internal static class ParameterFile
{
    /// <summary>Names of the tensors of an embedding table: one, or one for each <see cref="MultiTaskModel.TableUnits">unit with tables of its own</see>.</summary>
    public static IReadOnlyList<string> TableNames(ModelDescription description, string table)
    {
        IReadOnlyList<string> units = MultiTaskModel.TableUnits(description);
        return units.Count == 0 ? [$"embeddings.{table}.weight"] : [.. units.Select(unit => $"embeddings.{unit}.{table}.weight")];
    }

    /// <summary>Rows of the table of a feature; those of all units are equal.</summary>
    /// <exception cref="CheckpointFormatException">The file has no such table.</exception>
    public static int TableRows(SafetensorsHeader file, ModelDescription description, FeatureDescription feature)
    {
        TensorEntry entry = file[TableNames(description, feature.Table ?? feature.Name)[0]];
        return entry.Shape.Count == 2 && entry.Shape[0] is >= 1 and <= int.MaxValue
            ? (int)entry.Shape[0]
            : throw new CheckpointFormatException(file.File, $"tensor \"{entry.Name}\" has shape [{string.Join(", ", entry.Shape)}]; a table has two extents, rows and dimension");
    }

    /// <summary>Classes of a multi-class task: as described, else the outputs of the last layer of its tower.</summary>
    /// <exception cref="CheckpointFormatException">The file has no such layer.</exception>
    public static int Classes(SafetensorsHeader file, ModelDescription description, TaskDescription task)
    {
        if (task.Classes is { } classes)
            return classes.Count;
        TensorEntry bias = file[$"towers.{task.Name}.layers.{description.Architecture.Tower.Count}.bias"];
        return bias.Shape is [>= 1 and <= int.MaxValue]
            ? (int)bias.Shape[0]
            : throw new CheckpointFormatException(file.File, $"tensor \"{bias.Name}\" has shape [{string.Join(", ", bias.Shape)}]; it must have one extent, the classes of the task");
    }

    /// <summary>The name of a value as files write it.</summary>
    public static string SnakeCase<T>(T value)
        where T : struct, Enum => JsonNamingPolicy.SnakeCaseLower.ConvertName(value.ToString());
}
