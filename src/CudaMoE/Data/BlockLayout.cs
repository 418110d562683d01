namespace CudaMoE.Data;

/// <summary>
/// How the rows of a split lie in its cache file: blocks of <see cref="Rows"/> rows, and within a block column after column. A column has 4
/// bytes a row (ids, lengths of bags, labels, weights, groups), 8 (starts of bags) or 4 * DenseWidth (all dense numbers of a row). The
/// last block is padded with zeros.
/// </summary>
/// <remarks>
/// Blocks, not whole-file columns: a shuffled row then lies within a few neighbouring pages instead of one page a column, and the file is
/// written in one pass without knowing the number of rows.
/// </remarks>
internal sealed class BlockLayout
{
    /// <summary>Rows of a block, a power of two; a 4-byte column of a block is 256 bytes.</summary>
    public const int Rows = 1 << Shift;

    /// <summary>Base-2 logarithm of <see cref="Rows"/>.</summary>
    public const int Shift = 6;

    public BlockLayout(BatchLayout layout, bool[] weighted, bool grouped)
    {
        int inputs = layout.Sparse.Count;
        Ids = new int[inputs];
        Starts = new int[inputs];
        Lengths = new int[inputs];
        for (int i = 0; i < inputs; i++)
        {
            bool multiHot = layout.Sparse[i].MultiHot;
            Ids[i] = Take(multiHot ? 0 : sizeof(int));
            Starts[i] = Take(multiHot ? sizeof(long) : 0);
            Lengths[i] = Take(multiHot ? sizeof(int) : 0);
        }

        DenseRowBytes = layout.DenseWidth * sizeof(float);
        Dense = Take(DenseRowBytes);
        Labels = new int[layout.Tasks];
        Weights = new int[layout.Tasks];
        for (int task = 0; task < layout.Tasks; task++)
        {
            Labels[task] = Take(sizeof(float));
            Weights[task] = Take(weighted[task] ? sizeof(float) : 0);
        }

        Groups = Take(grouped ? sizeof(int) : 0);
    }

    /// <summary>Byte offset of each input's ids in a block; -1 when multi-hot.</summary>
    public int[] Ids { get; }

    /// <summary>Byte offset of each multi-hot input's bag starts (int64 places in the values file); -1 when not multi-hot.</summary>
    public int[] Starts { get; }

    /// <summary>Byte offset of each multi-hot input's bag lengths; -1 when not multi-hot.</summary>
    public int[] Lengths { get; }

    /// <summary>Byte offset of the dense numbers, row-major; -1 when there are none.</summary>
    public int Dense { get; }

    /// <summary>Bytes of a row's dense numbers.</summary>
    public int DenseRowBytes { get; }

    /// <summary>Byte offset of each task's labels.</summary>
    public int[] Labels { get; }

    /// <summary>Byte offset of each task's weights; -1 when all are 1.</summary>
    public int[] Weights { get; }

    /// <summary>Byte offset of the groups; -1 when there are none.</summary>
    public int Groups { get; }

    /// <summary>Bytes of a block.</summary>
    public int BlockBytes { get; private set; }

    /// <summary>The layout for the given encoders.</summary>
    public static BlockLayout For(FittedEncoders encoders) =>
        new(encoders.Layout, [.. encoders.Tasks.Select(task => LabelReader.HasWeights(task.Description))], encoders.GroupColumn is not null);

    /// <summary>Bytes of a file of that many rows.</summary>
    public long FileBytes(long rows) => ((rows + Rows - 1) >> Shift) * BlockBytes;

    private int Take(int rowBytes)
    {
        if (rowBytes == 0)
            return -1;
        int offset = BlockBytes;
        BlockBytes = checked(BlockBytes + (rowBytes * Rows));
        return offset;
    }
}
