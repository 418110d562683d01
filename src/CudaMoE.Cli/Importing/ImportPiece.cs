namespace CudaMoE.Cli.Importing;

/// <summary>A part of a parameter that a foreign tensor holds; the parts of a parameter follow each other in its row-major order.</summary>
/// <param name="Tensor">Name of the foreign tensor.</param>
/// <param name="Shape">The shape that it must have.</param>
/// <param name="Row">The only row that is taken; null = the whole tensor.</param>
internal sealed record ImportPiece(string Tensor, IReadOnlyList<long> Shape, int? Row = null)
{
    /// <summary>Numbers that it gives.</summary>
    public long Count => Shape.Skip(Row == null ? 0 : 1).Aggregate(1L, (a, b) => a * b);
}
