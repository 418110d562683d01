using CudaMoE.Checkpoints;

namespace CudaMoE.Cli.Importing;

/// <summary>A parameter that wants its numbers.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Shape">Its shape.</param>
/// <param name="Bf16">Whether it is stored as bf16; else f32.</param>
internal sealed record ImportTarget(string Name, IReadOnlyList<long> Shape, bool Bf16)
{
    public long Count => Shape.Aggregate(1L, (a, b) => a * b);
}

/// <summary>Names and shapes of another program's tensors. docs/import.md has the table of each.</summary>
internal abstract class ImportLayout
{
    /// <summary>Where a parameter's numbers are; null for parameters that the other program does not have.</summary>
    public abstract IReadOnlyList<ImportPiece>? Pieces(ImportTarget target);

    /// <summary>The tensor of an embedding table, [rows, dimension]; null where a map must name it.</summary>
    /// <param name="table">Name of the table.</param>
    public virtual string? Table(string table) => null;

    /// <summary>Classes of a multi-class task by the foreign tensors; null where the description must say it.</summary>
    /// <param name="file">The foreign tensors.</param>
    /// <param name="prefix">What stands before the layout's names.</param>
    public virtual int? Classes(SafetensorsHeader file, string prefix) => null;

    /// <summary>Whether a tensor has nothing for the model, such as a count of steps.</summary>
    public virtual bool IsIgnored(string tensor) => false;

    /// <summary>For a second name of a tensor, which must hold the same numbers: its first name.</summary>
    public virtual string? SameAs(string tensor) => null;
}
