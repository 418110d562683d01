using System.Runtime.InteropServices;
using CudaMoE.Data;
using CudaMoE.Graphs;
using CudaMoE.Interop;
using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>
/// The macro weights of the batch's users and items, looked up by the same ids as their embeddings in tables that are not trained: of each side the
/// weights of first order, over the macro nodes of the other side, and of second order, over those of its own.
/// </summary>
internal sealed unsafe class MacroWeightTables
{
    private const int Sides = 2;
    private readonly LayerContext _context;
    private readonly DeviceBatch _batch;
    private readonly int[] _inputs;
    private readonly int[] _rows;
    private readonly int[] _macroNodes;
    private readonly DeviceBuffer[] _memory = new DeviceBuffer[Sides];
    private EmbeddingTable* _tables;
    private EmbeddingFeature* _features;
    private EmbeddingForwardArgs _forward;

    /// <param name="context">The context.</param>
    /// <param name="batch">Gives the ids.</param>
    /// <param name="layout">Says how many rows the tables have.</param>
    /// <param name="inputs">The input of the users and that of the items.</param>
    /// <param name="macroNodes">Macro nodes of users and items, the cold ones included.</param>
    public MacroWeightTables(LayerContext context, DeviceBatch batch, BatchLayout layout, int[] inputs, int[] macroNodes)
    {
        context.OnDispose(Free);
        _context = context;
        _batch = batch;
        _inputs = inputs;
        _rows = [.. inputs.Select(input => layout.Sparse[input].Rows)];
        _macroNodes = macroNodes;
        int width = macroNodes.Sum();
        Output = context.Reserve("macro.weights", (long)Sides * width);
        _tables = (EmbeddingTable*)NativeMemory.AllocZeroed(Sides, (nuint)sizeof(EmbeddingTable));
        _features = (EmbeddingFeature*)NativeMemory.AllocZeroed(Sides, (nuint)sizeof(EmbeddingFeature));
        for (int side = 0; side < Sides; side++)
        {
            long count = checked((long)_rows[side] * width);
            DeviceBuffer memory = _memory[side] = context.Own(context.Device.Allocate(count * sizeof(float)));
            _tables[side] = new() { Weights = (void*)memory.Pointer, Rows = _rows[side], RowStride = width, Dim = width, Dtype = NativeConstants.F32 };
            _features[side] = new() { BagSize = 1, Table = side, Column = (long)side * width };
            context.Parameters.AddTable(new(
                $"macro.{((GraphSide)side).ToString().ToLowerInvariant()}.weights", ParameterKind.Frozen, ElementType.F32, [_rows[side], width], () => memory.Pointer, () => 0, () => 0, () => 0));
        }

        context.OnBind(Bind);
    }

    /// <summary>[rows, weights of the user, weights of the item].</summary>
    public Slot Output { get; }

    /// <summary>[rows, macro nodes of the other side] weights of first order.</summary>
    public Slot First(GraphSide side) => Output.Slice((long)side * _macroNodes.Sum(), _macroNodes[(int)MacroGraph.Other(side)]);

    /// <summary>[rows, macro nodes of the same side] weights of second order.</summary>
    public Slot Second(GraphSide side) => Output.Slice(((long)side * _macroNodes.Sum()) + _macroNodes[(int)MacroGraph.Other(side)], _macroNodes[(int)side]);

    /// <summary>Gives all nodes the weights of one without edges.</summary>
    public void Initialize()
    {
        for (int side = 0; side < Sides; side++)
        {
            int first = _macroNodes[1 - side];
            float[] row = new float[_macroNodes.Sum()];
            row.AsSpan(0, first).Fill(1f / first);
            row.AsSpan(first).Fill(1f / _macroNodes[side]);
            for (int r = 0; r < _rows[side]; r++)
                Set((GraphSide)side, r, row);
        }
    }

    /// <summary>Sets the weights of one row of a side's table.</summary>
    public void Set(GraphSide side, int row, ReadOnlySpan<float> weights) =>
        _context.Stream.CopyToDevice(weights, _memory[(int)side].Pointer + (nint)((long)row * weights.Length * sizeof(float)));

    /// <summary>Looks up the weights of the batch whose features were loaded last.</summary>
    public void Forward(long rows)
    {
        for (int side = 0; side < Sides; side++)
        {
            _features[side].Ids = _batch.Ids(_inputs[side]);
            _features[side].Lookups = rows;
        }

        _forward.Batch = rows;
        fixed (EmbeddingForwardArgs* args = &_forward)
            NativeStatus.Check(NativeMethods.EmbeddingForward(_context.Stream.Native, args));
    }

    private void Bind() => _forward = new()
    {
        StructSize = (uint)sizeof(EmbeddingForwardArgs),
        TableCount = Sides,
        FeatureCount = Sides,
        Tables = _tables,
        Features = _features,
        Output = (void*)Output.Pointer,
        OutputRowStride = Output.RowStride,
        Bounds = NativeConstants.BoundsReport,
    };

    private void Free()
    {
        NativeMemory.Free(_tables);
        NativeMemory.Free(_features);
        _tables = null;
        _features = null;
    }
}
