using CudaMoE.Tensors;

namespace CudaMoE.Layers;

/// <summary>
/// A matrix with a place in an arena: [rows, <see cref="Columns"/>], rows <see cref="RowStride"/> elements apart. Its address is known once the
/// arena is committed. Layers are wired through slots before any memory exists.
/// </summary>
internal sealed class Slot
{
    private readonly Slot? _parent;
    private readonly long _column;
    private readonly List<Slot> _views = [];
    private readonly Func<nint>? _address;
    private nint _pointer;

    private Slot(long columns, long rowStride, Slot? parent, long column, Func<nint>? address = null)
    {
        _address = address;
        Columns = columns;
        RowStride = rowStride;
        _parent = parent;
        _column = column;
    }

    public long Columns { get; }

    public long RowStride { get; }

    public nint Pointer => _parent == null ? _address?.Invoke() ?? _pointer : _parent.Pointer + (nint)(_column * sizeof(float));

    public unsafe float* Data => (float*)Pointer;

    /// <summary>Reserves [rows, columns] of f32; rows start at multiples of 64 bytes, with <paramref name="spread"/> never a multiple of 4 KiB apart.</summary>
    public static Slot Reserve(Arena arena, string name, long rows, long columns, bool spread = false)
    {
        const long lane = 16, page = 1024;
        long stride = columns >= lane ? (columns + lane - 1) / lane * lane : columns;
        if (spread && stride % page == 0)
            stride += lane;
        return ReserveExact(arena, name, rows, columns, stride);
    }

    /// <summary>Reserves [rows, columns] of f32 with the given stride; columns without gaps when that equals columns.</summary>
    public static Slot ReserveExact(Arena arena, string name, long rows, long columns, long rowStride)
    {
        Slot slot = new(columns, rowStride, null, 0);
        arena.Reserve(name, checked(rows * rowStride * sizeof(float)), pointer => slot._pointer = pointer);
        return slot;
    }

    /// <summary>Rows without gaps at an address that is known already.</summary>
    public static Slot At(nint pointer, long columns) => new(columns, columns, null, 0) { _pointer = pointer };

    /// <summary>Memory that is no arena's, e.g. a parameter's, as rows without gaps.</summary>
    public static Slot Of(Func<nint> address, long columns) => new(columns, columns, null, 0, address);

    /// <summary>A range of the columns; the same object each time, so that a step may ask for it.</summary>
    public Slot Slice(long column, long columns)
    {
        if (column < 0 || column + columns > Columns)
            throw new ArgumentOutOfRangeException(nameof(column), $"columns {column} to {column + columns} of {Columns}");
        return ViewOf(column, columns, RowStride);
    }

    /// <summary>The same memory from the first element on as rows of another shape, e.g. the tokens of a sample as one row; the same object each time.</summary>
    public Slot Reshape(long columns, long rowStride) => ViewOf(0, columns, rowStride);

    public Tensor View(long rows) => new(Pointer, rows, Columns, RowStride);

    private Slot ViewOf(long column, long columns, long rowStride)
    {
        foreach (Slot view in _views)
        {
            if (view._column == column && view.Columns == columns && view.RowStride == rowStride)
                return view;
        }

        Slot made = new(columns, rowStride, this, column);
        _views.Add(made);
        return made;
    }
}
