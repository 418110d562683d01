using CudaMoE.Checkpoints;
using CudaMoE.Data;
using CudaMoE.Description;

namespace CudaMoE.Cli.Probing;

/// <summary>
/// Named input tensors of a probe, as one batch. Per feature: ids (I32 or I64, [rows]) of a categorical or quantile feature; ids of all rows one
/// after the other and <c>NAME.offsets</c> ([rows + 1]) of a multi-hot one or a sequence; numbers ([rows] or [rows, size]) of a dense or vector one. Ids are rows
/// of the embedding table and numbers go in as they are: nothing is encoded or transformed.
/// </summary>
/// <remarks>
/// The numbers of all dense features enter as rows of a look-up table of their own, one row a sample. The feature row is the same as in
/// training (tables in order, then dense numbers), and the gradient of that table is the gradient of the dense inputs.
/// </remarks>
internal sealed class ProbeInputs : IDisposable
{
    /// <summary>The table that holds the dense numbers; a name that no feature can have, since names are not empty.</summary>
    public const string DenseTable = "";

    private ProbeInputs(ModelShape shape, Batch batch, float[] dense, int denseWidth)
    {
        Shape = shape;
        Batch = batch;
        Dense = dense;
        DenseWidth = denseWidth;
    }

    /// <summary>The model's shape with the dense numbers as a table.</summary>
    public ModelShape Shape { get; }

    /// <summary>The ids.</summary>
    public Batch Batch { get; }

    /// <summary>[rows, <see cref="DenseWidth"/>] numbers of the dense features.</summary>
    public float[] Dense { get; }

    public int DenseWidth { get; }

    public int Rows => Batch.Rows;

    /// <summary>Reads the inputs of a model.</summary>
    /// <exception cref="CheckpointFormatException">A tensor is missing, or of another shape or type than the feature needs, or an id is out of its table.</exception>
    public static ProbeInputs Read(ModelShape shape, SafetensorsReader file)
    {
        int rows = CountRows(shape.Description, file);
        int width = shape.Layout.DenseWidth;
        List<SparseInput> sparse = [.. shape.Layout.Sparse];
        if (width > 0)
            sparse.Add(new(DenseTable, DenseTable, rows, width, MultiHot: false, PoolingKind.Sum, MaxLength: 1));
        ModelShape probed = shape with { Layout = shape.Layout with { Sparse = sparse, DenseWidth = 0 } };
        Batch batch = new(probed.Layout, rows) { Rows = rows };
        try
        {
            float[] dense = new float[rows * width];
            Fill(probed, file, batch, dense, width);
            return new(probed, batch, dense, width);
        }
        catch
        {
            batch.Dispose();
            throw;
        }
    }

    /// <summary>The numbers of a tensor of whole numbers.</summary>
    /// <exception cref="CheckpointFormatException">It is neither I32 nor I64, or has numbers beyond 32 bits.</exception>
    public static int[] Integers(SafetensorsReader file, TensorEntry entry)
    {
        if (entry.Count > int.MaxValue)
            throw Wrong(file, entry, "it has more than 2^31 - 1 numbers");
        int[] values = new int[entry.Count];
        switch (entry.Type)
        {
            case TensorDataType.I32:
                file.CopyTo<int>(entry.Name, values);
                return values;
            case TensorDataType.I64:
                long[] wide = new long[entry.Count];
                file.CopyTo<long>(entry.Name, wide);
                for (int i = 0; i < wide.Length; i++)
                    values[i] = wide[i] == (int)wide[i] ? (int)wide[i] : throw Wrong(file, entry, $"element {i} is {wide[i]}, which is no row of a table");
                return values;
            default:
                throw Wrong(file, entry, $"it is {entry.Type.Name()}; ids and offsets are I32 or I64");
        }
    }

    public void Dispose() => Batch.Dispose();

    private static int CountRows(ModelDescription description, SafetensorsReader file)
    {
        FeatureDescription first = description.Features[0];
        TensorEntry entry = ModelShape.IsList(first) ? file.Header[OffsetsName(first)] : file.Header[first.Name];
        long rows = entry.Shape.Count == 0 ? 0 : entry.Shape[0] - (ModelShape.IsList(first) ? 1 : 0);
        return rows is >= 1 and <= 1 << 24 ? (int)rows : throw Wrong(file, entry, "it must say 1 to 2^24 rows");
    }

    private static void Fill(ModelShape shape, SafetensorsReader file, Batch batch, float[] dense, int width)
    {
        int column = 0;
        int input = 0;
        foreach (FeatureDescription feature in shape.Description.Features)
        {
            if (!ModelShape.IsEmbedded(feature))
            {
                column += FillDense(feature, file, batch.Rows, dense, column, width);
                continue;
            }

            SparseInput sparse = shape.Layout.Sparse[input];
            int[] ids = ReadIntegers(file, feature.Name);
            if (ModelShape.IsList(feature))
                FillOffsets(feature, file, batch, input, ids.Length);
            else if (ids.Length != batch.Rows)
                throw Wrong(file, file.Header[feature.Name], $"it must have one id for each of {batch.Rows} rows");
            for (int i = 0; i < ids.Length; i++)
            {
                if ((uint)ids[i] >= (uint)sparse.Rows)
                    throw Wrong(file, file.Header[feature.Name], $"element {i} is {ids[i]}; ids are 0 to {sparse.Rows - 1}");
            }

            ids.CopyTo(batch.Ids(input++));
        }

        if (width == 0)
            return;
        Span<int> rows = batch.Ids(input);
        for (int row = 0; row < rows.Length; row++)
            rows[row] = row;
    }

    private static int FillDense(FeatureDescription feature, SafetensorsReader file, int rows, float[] dense, int column, int width)
    {
        int size = ModelShape.DenseWidth(feature);
        TensorEntry entry = file.Header[feature.Name];
        bool fits = (entry.Shape is [var alone] && alone == rows && size == 1) || (entry.Shape is [var r, var c] && r == rows && c == size);
        if (!fits)
            throw Wrong(file, entry, $"it must be [{rows}, {size}]");
        float[] values = new float[rows * size];
        file.ReadSingles(feature.Name, values);
        for (int row = 0; row < rows; row++)
            values.AsSpan(row * size, size).CopyTo(dense.AsSpan((row * width) + column));
        return size;
    }

    private static unsafe void FillOffsets(FeatureDescription feature, SafetensorsReader file, Batch batch, int input, int ids)
    {
        int[] offsets = ReadIntegers(file, OffsetsName(feature));
        TensorEntry entry = file.Header[OffsetsName(feature)];
        if (offsets.Length != batch.Rows + 1)
            throw Wrong(file, entry, $"it must have {batch.Rows + 1} offsets");
        for (int i = 0; i < offsets.Length; i++)
        {
            if (offsets[i] < (i == 0 ? 0 : offsets[i - 1]) || (i == 0 && offsets[i] != 0) || offsets[i] > ids)
                throw Wrong(file, entry, $"element {i} is {offsets[i]}; offsets ascend from 0 to the number of ids, {ids}");
        }

        int positions = batch.Layout.Sparse[input].Positions;
        for (int row = 0; positions > 0 && row < batch.Rows; row++)
        {
            if (offsets[row + 1] - offsets[row] > positions)
                throw Wrong(file, entry, $"row {row} has {offsets[row + 1] - offsets[row]} ids; sequence \"{feature.Name}\" has max_length {positions}");
        }

        if (offsets[^1] != ids)
            throw Wrong(file, entry, $"the last offset is {offsets[^1]}; it must be the number of ids, {ids}");
        offsets.CopyTo(new Span<int>(batch.OffsetsPointer(input), offsets.Length));
        batch.SetIdCount(input, ids);
    }

    private static int[] ReadIntegers(SafetensorsReader file, string name)
    {
        TensorEntry entry = file.Header[name];
        return entry.Shape.Count == 1 ? Integers(file, entry) : throw Wrong(file, entry, "ids and offsets have one extent");
    }

    private static string OffsetsName(FeatureDescription feature) => $"{feature.Name}.offsets";

    private static CheckpointFormatException Wrong(SafetensorsReader file, TensorEntry entry, string rule) =>
        new(file.Header.File, $"tensor \"{entry.Name}\" has shape [{string.Join(", ", entry.Shape)}]; {rule}");
}
