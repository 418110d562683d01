using System.Runtime.InteropServices;
using CudaMoE.Interop;
using CudaMoE.Layers;
using CudaMoE.Tensors;

namespace CudaMoE.Models;

/// <summary>Vectors of the size of all tables, one a task, in f32 on the device: what a balancer keeps of the tables' gradients. They are 0 at the start.</summary>
internal sealed unsafe class TableVectors
{
    private readonly LayerContext _context;
    private readonly EmbeddingLayer _embedding;
    private readonly List<(string Name, Slot Elements)>[] _values;
    private readonly List<(string Name, Slot Elements)> _all = [];
    private EmbeddingTable* _tables;

    /// <param name="context">The context.</param>
    /// <param name="embedding">The tables.</param>
    /// <param name="tasks">Vectors.</param>
    /// <param name="squares">Whether sums of squares are kept too.</param>
    public TableVectors(LayerContext context, EmbeddingLayer embedding, int tasks, bool squares)
    {
        context.OnDispose(Free);
        _context = context;
        _embedding = embedding;
        _values = [.. Enumerable.Range(0, tasks).Select(_ => new List<(string, Slot)>())];
        _tables = (EmbeddingTable*)NativeMemory.AllocZeroed((nuint)(tasks * embedding.Tables), (nuint)sizeof(EmbeddingTable));
        for (int task = 0; task < tasks; task++)
        {
            int table = task * embedding.Tables;
            foreach ((string name, long rows, int dimension) in embedding.TableShapes)
            {
                DeviceBuffer values = Allocate($"{name}.{task}.vector", rows * dimension);
                _values[task].Add(_all[^1]);
                _tables[table++] = new()
                {
                    Weights = (void*)values.Pointer,
                    Rows = rows,
                    RowStride = dimension,
                    State1 = squares ? (float*)Allocate($"{name}.{task}.squares", rows * dimension).Pointer : null,
                    Dim = dimension,
                    Dtype = NativeConstants.F32,
                };
            }
        }
    }

    /// <summary>What a checkpoint keeps of them.</summary>
    public IEnumerable<(string Name, nint Address, long Count)> States => _all.Select(entry => (entry.Name, entry.Elements.Pointer, entry.Elements.Columns));

    /// <summary>The feature row of the loaded batch, looked up in a vector.</summary>
    public void Lookup(int task, Slot output) => _embedding.Lookup(TablesOf(task), output);

    /// <summary>Adds a multiple of a gradient, given as that of the feature row, to a vector.</summary>
    public void Add(int task, Slot gradient, float factor) => _embedding.Apply(TablesOf(task), gradient, optimizer: 0, -factor, epsilon: 1);

    /// <summary>S += (factor g)²; the vector gets -factor g / sqrt(S) added.</summary>
    public void AddSquares(int task, Slot gradient, float factor, float epsilon) => _embedding.Apply(TablesOf(task), gradient, optimizer: 1, factor, epsilon);

    /// <summary>Multiplies a whole vector; by 0 with NaN and all.</summary>
    public void Scale(int task, float* factor)
    {
        foreach ((_, Slot elements) in _values[task])
            BalanceOperations.Scale(_context, elements, rows: 1, factor);
    }

    /// <summary>Sets a whole vector to 0.</summary>
    public void Clear(int task)
    {
        foreach ((_, Slot elements) in _values[task])
            _context.Stream.Fill(elements.Pointer, 0, elements.Columns * sizeof(float));
    }

    private EmbeddingTable* TablesOf(int task) => _tables + (task * _embedding.Tables);

    private DeviceBuffer Allocate(string name, long count)
    {
        DeviceBuffer memory = _context.Own(_context.Device.Allocate(count * sizeof(float)));
        _context.Stream.Fill(memory.Pointer, 0, count * sizeof(float));
        _all.Add((name, Slot.At(memory.Pointer, count)));
        return memory;
    }

    private void Free()
    {
        NativeMemory.Free(_tables);
        _tables = null;
    }
}
