namespace CudaMoE.Cli.Importing;

/// <summary>A tensor of a foreign file and the shape that it must have.</summary>
internal sealed record ForeignTensor(string Name, IReadOnlyList<long> Shape)
{
    public long Count => Shape.Aggregate(1L, (a, b) => a * b);
}

/// <summary>A part of a parameter that comes from foreign tensors; the parts of a parameter follow each other in its row-major order.</summary>
/// <param name="Count">Numbers that it gives.</param>
/// <param name="Sources">The foreign tensors.</param>
/// <param name="Compute">The numbers from those of the tensors.</param>
internal sealed record ImportPiece(long Count, IReadOnlyList<ForeignTensor> Sources, Func<float[][], float[]> Compute)
{
    /// <summary>A tensor as it is.</summary>
    public static ImportPiece Whole(string tensor, IReadOnlyList<long> shape)
    {
        ForeignTensor source = new(tensor, shape);
        return new(source.Count, [source], values => values[0]);
    }

    /// <summary>One row of a tensor, or one block of its first extent.</summary>
    public static ImportPiece Row(string tensor, IReadOnlyList<long> shape, int row)
    {
        int count = (int)shape.Skip(1).Aggregate(1L, (a, b) => a * b);
        return new(count, [new(tensor, shape)], values => values[0].AsSpan(row * count, count).ToArray());
    }

    /// <summary>A matrix [rows, columns] that is [columns, rows] there.</summary>
    public static ImportPiece Transposed(string tensor, long rows, long columns) => new(rows * columns, [new(tensor, [columns, rows])], values =>
    {
        float[] transposed = new float[rows * columns];
        for (long row = 0; row < rows; row++)
        {
            for (long column = 0; column < columns; column++)
                transposed[(row * columns) + column] = values[0][(column * rows) + row];
        }

        return transposed;
    });

    /// <summary>Numbers that the other program does not have.</summary>
    public static ImportPiece Zeros(IReadOnlyList<long> shape)
    {
        long count = shape.Aggregate(1L, (a, b) => a * b);
        return new(count, [], _ => new float[count]);
    }

    /// <summary>The same with something before the names of its tensors.</summary>
    public ImportPiece WithPrefix(string prefix) => this with { Sources = [.. Sources.Select(source => source with { Name = prefix + source.Name })] };
}
